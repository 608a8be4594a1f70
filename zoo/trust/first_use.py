"""Pins weights on first use, those whose sha256 no lock and no manifest states.

The hub is asked for commit, size and sha256 before a byte is read. What arrives must agree with that and be a whole
file of its format. It is then pinned: from then on, other bytes are an error. A pin is a small file of its own, in the
format of ``zoo.lock``, that exactly one process can create, so pins need no locks. They are in the folder of the
configuration and not in the cache: an emptied cache must not forget what names meant.
"""

import hashlib
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zoo import hub
from zoo.errors import HubError, IntegrityError, LockError, StorageError, UnknownNameError, UnpinnedError, WeightsError
from zoo.hub import Received, formats
from zoo.manifest import Weights
from zoo.registry import Found, Listed
from zoo.system import storage, toml
from zoo.trust import lock, pinning, policy, shared
from zoo.trust.lock import Lock, Locked

if TYPE_CHECKING:
    from zoo.hub.download import Progress

_HEAD = "# Pinned on first use. zoo lock --user lists all names; zoo lock --user --forget NAME removes one."

_REPAIR = "Repair it, or move it away: then its name is pinned anew on its next use."

_PATIENCE = 50
"""Hundredths of a second."""

Pins = Mapping[str, Locked]


class Fetched(NamedTuple):
    """Weights with a sha256, and their file in the cache."""

    weights: Weights
    path: Path


def fetch(match: Found, weights: Weights, *, source: str | None = None, progress: "Progress | None" = None) -> Fetched:
    """Returns the file of ``weights``, those that :func:`zoo.loading.resolve.weights_for` returned.

    Without a sha256 they are pinned.

    A strong digest in the manifest determines the bytes, so such an entry may always be fetched. Raises as
    :func:`zoo.hub.fetch`, UnpinnedError if the project or ``ZOO_STRICT`` refuses first use, LockError if another
    process, or another user of the shared pins, pinned other bytes, StorageError if the pin cannot be written.
    """
    if weights.sha256:
        return _fetch_pinned(match, weights, source, progress)
    name, _ = _pin_of(match, weights)  # a damaged pin is an error before a long download
    if not weights.determines_bytes and (reason := policy.refuses_first_use()):
        raise UnpinnedError(
            f"{name} is not pinned: its manifest has no sha256 for {weights.path}, and {reason}.",
            hint=f"zoo manifest pin {name} records its sha256 in the manifest; zoo fetch {name}, where first use is "
            f"allowed, and zoo lock {name} record it in the project's zoo.lock.",
        )
    got = _receive(weights, source, progress)
    repository = lock.repository_of(match, weights)
    if repository:  # whoever served the weights, they are those of the description's commit
        got = got._replace(revision=weights.revision)
    pinned = pin(name, got, match.source.distribution, match.source.version, weights.digest, repository)
    return Fetched(lock.pinned(weights, pinned), got.path)


def _fetch_pinned(match: Found, weights: Weights, source: str | None, progress: "Progress | None") -> Fetched:
    """Returns the file of weights with a sha256; an error says if the user pinned them, when, and how to forget it."""
    name, pinned = _pin_of(match, weights)
    try:
        file = hub.fetch(weights, source=source, progress=progress)
    except IntegrityError as error:
        if pinned is None:
            raise
        hint = f"{name} was {since(pinned)}; {forgetting(name)} accepts other bytes. {error.hint}"
        raise IntegrityError(error.message, hint=hint) from None
    if pinned is not None and (fault := _fault_of(file, weights)):
        raise IntegrityError(f"{name} cannot be used: {file} {fault}.", hint=f"It was {since(pinned)}. {_anew(name)}")
    return Fetched(weights, file)


def explain(error: WeightsError, match: Found, weights: Weights) -> None:
    """Adds to the hint of ``error``, which says that a file cannot be used, when it was pinned and how to forget it."""
    name, pinned = _pin_of(match, weights)
    if pinned is not None and pinned.sha256 == weights.sha256:
        error.hint = f"{error.hint} {name} was {since(pinned)}. {_anew(name)}".strip()


def pin(
    name: str,
    got: Received,
    distribution: str = "",
    version: str = "",
    digest: str = "",
    repository: lock.Repository | None = None,
) -> Locked:
    """Pins what was received; raises LockError if ``name`` was pinned to other bytes, also by others who share pins."""
    locked = Locked(
        distribution=distribution,
        version=version,
        sha256=got.sha256,
        digest=digest,
        size=got.size,
        revision=got.revision if re.fullmatch("[0-9a-f]{40}", got.revision) else "",
        source="".join(letter if letter.isprintable() else "?" for letter in got.source),
        date=datetime.now(UTC).date(),
        repository=repository,
    )
    shared.compare(_key_of(name), name, locked)
    if not add(name, locked):
        return locked
    try:
        agreeing = shared.publish(_key_of(name), name, locked)
    except LockError:  # somebody pinned other bytes at this moment
        _remove(_file_of(name))
        raise
    commit = f", commit {locked.revision[:7]}" if locked.revision else ""
    others = f"; {agreeing} other user{'s' * (agreeing > 1)} pinned the same bytes" if agreeing else ""
    text = "%s: pinned on first use, sha256 %s...%s%s"
    logging.getLogger("zoo").warning(text, name, locked.sha256[:8], commit, others)
    return locked


def _receive(weights: Weights, source: str | None, progress: "Progress | None") -> Received:
    """Returns the file, with the sha256 that the hub states, or else that of what the first source serves."""
    stated = weights
    if source is None:
        try:
            stated = pinning.resolve(weights)
        except IntegrityError:
            raise
        except HubError as error:  # offline, or a hub that states nothing; it may serve the file all the same
            logging.getLogger("zoo").info("%s: %s", weights.name, error.message)
    if not stated.sha256:
        return hub.fetch_unpinned(stated, source=source, progress=progress)
    file = hub.fetch(stated, progress=progress)
    if fault := _fault_of(file, weights):
        raise IntegrityError(
            f"{weights.name} is not pinned: what {hub.name_of(stated.hub)} states and serves {fault}.",
            hint="Report it to the owner of the repository.",
        )
    return Received(file, stated.sha256, file.stat().st_size, hub.name_of(stated.hub), stated.revision)


def _fault_of(file: Path, weights: Weights) -> str:
    try:
        return formats.fault(file, weights.file)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _anew(name: str) -> str:
    return f"{forgetting(name)} forgets it: then its next use pins it anew."


# ---- the user's pins ---------------------------------------------------------------------------


def place() -> Path:
    """Returns the folder of the user's pins, a file each."""
    return storage.config_folder() / "pins"


def older_place() -> Path:
    """Returns the one file that held all pins once. It is read, and nothing is added to it."""
    return storage.config_folder() / lock.NAME


def pins() -> Pins:
    """Returns the user's pins by full name; raises :class:`LockError` if one cannot be read."""
    every = dict(_older())
    for file in sorted(place().glob("*.toml")) if place().is_dir() else ():
        every |= _read(file)
    return every


def find(name: str) -> Locked | None:
    """Returns the user's pin of a full name; None without one. Raises :class:`LockError` if it cannot be read."""
    file = _file_of(name)
    if not os.path.lexists(file):
        return _older().get(name)
    _wait_for(file)
    if pinned := _read(file).get(name):
        return pinned
    raise LockError(f"{file} does not have {name}.", hint=_REPAIR)


def follow(match: Found, weights: Weights) -> Weights:
    """Returns ``weights`` as the user pinned them.

    Raises :class:`LockError` if their manifest now has other bytes.
    """
    name, pinned = _pin_of(match, weights)
    if pinned is None:
        return weights
    hint = f"It was {since(pinned)}. Find out which bytes are right; {forgetting(name)} accepts the present ones."
    return lock.hold(name, pinned, match, weights, place(), hint)


def entries(listed: Iterable[Listed]) -> Iterator[tuple[Listed, Weights]]:
    """Yields all weights of ``listed``; those without a sha256 with that of the user's pin, if there is one."""
    every = pins()
    for entry in listed:
        for weights in entry.weights:
            pinned = None if weights.sha256 else every.get(lock.name_in(every, entry, weights.tag))
            yield entry, lock.pinned(weights, pinned) if pinned else weights


def add(name: str, locked: Locked) -> bool:
    """Pins ``name``; False if it was pinned to the same bytes. Raises :class:`LockError` if to others."""
    if (other := find(name)) is None:
        if _create(_file_of(name), name, locked):
            return True
        other = find(name) or locked  # pinned by another process, and forgotten by a third
    if (other.sha256, other.repository) != (locked.sha256, locked.repository):
        raise LockError(
            f"{name} has {_bytes_of(locked)} at {locked.source}, but {place()} has {_bytes_of(other)}.",
            hint=f"It was {since(other)}. {forgetting(name)} accepts other bytes.",
        )
    return False


def forget(names: Iterable[str]) -> None:
    """Removes the pins of ``names``, all or none; raises :class:`UnknownNameError`."""
    gone, every = set(names), pins()
    for name in sorted(gone):
        if name not in every:
            raise UnknownNameError.of("pinned name", name, every, hint=f"{place()} has no such name.")
    for name in gone:
        _remove(_file_of(name))
        shared.withdraw(_key_of(name))
    if (older := _older()).keys() & gone:
        left = {name: pinned for name, pinned in older.items() if name not in gone}
        # Which may be a link, as in a repository of configuration files.
        storage.replace(older_place().resolve(), lock.render(Lock(version=1, weights=left), _HEAD).encode())


def since(pinned: Locked) -> str:
    """Returns when and from where a name was pinned."""
    day, source = f" on {pinned.date}" if pinned.date else "", f" from {pinned.source}" if pinned.source else ""
    return f"pinned on first use{day}{source}"


def forgetting(name: str) -> str:
    return f"zoo lock --user --forget {name}"


def _pin_of(match: Found, weights: Weights) -> tuple[str, Locked | None]:
    """Returns the name under which ``weights`` are pinned, which may be an alias, and the pin; None without one."""
    every = [lock.full_name(match, weights.tag, alias) for alias in ("", *match.model.aliases)]
    return next(((name, pinned) for name in every if (pinned := find(name))), (every[0], None))


def _bytes_of(locked: Locked) -> str:
    about = locked.repository
    return f"sha256 {locked.sha256}" + (f" and {about.description} with sha256 {about.sha256}" if about else "")


def _key_of(name: str) -> str:
    """Returns the name of a pin's file, without a suffix: one for each full name on every file system."""
    readable = re.sub("[^a-z0-9._-]", "-", name.lower())
    return f"{readable[:100]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _file_of(name: str) -> Path:
    return place() / f"{_key_of(name)}.toml"


def _create(file: Path, name: str, locked: Locked) -> bool:
    content = lock.render(Lock(version=1, weights={name: locked}), _HEAD).encode()
    try:
        return storage.create(file, content)
    except StorageError as error:
        raise StorageError(error.message, hint=f"{error.hint} ZOO_CONFIG sets the folder.".strip()) from error


def _wait_for(file: Path) -> None:
    """Waits a moment for the content of a new file: without hard links, its name comes before it."""
    for _ in range(_PATIENCE):
        with suppress(OSError):
            if file.stat().st_size:
                return
        time.sleep(0.01)


def _read(file: Path) -> Pins:
    return toml.read(file, Lock, LockError, _REPAIR).weights


def _older() -> Pins:
    return _read(older_place()) if os.path.lexists(older_place()) else {}


def _remove(file: Path) -> None:
    with storage.explained(file, 0):
        file.unlink(missing_ok=True)
