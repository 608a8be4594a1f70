"""Pins weights on first use, those whose sha256 no lock and no manifest states, in the user's lock.

The hub is asked for commit, size and sha256 before a byte is read. What arrives must agree with that, and is
then written into the user's lock, a file in the format of ``zoo.lock``; from then on, other bytes are an error. The
file is in the folder of the configuration and not in the cache: an emptied cache must not forget what names meant.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zoo import hub
from zoo.errors import HubError, IntegrityError, LockError, StorageError, UnknownNameError, UnpinnedError
from zoo.hub import Received
from zoo.manifest import Weights
from zoo.registry import Found, Listed
from zoo.system import storage, toml
from zoo.trust import lock, pinning, policy
from zoo.trust.lock import Lock, Locked

if TYPE_CHECKING:
    from zoo.hub.download import Progress

_HEAD = "# Weights that Zoo pinned on first use. zoo lock --user lists them; zoo lock --user --forget NAME removes one."

_SETTLING = 0.02
"""Seconds: longer than another process takes from its last look at the file to its replacement."""

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
    process pinned other bytes meanwhile, StorageError if the user's lock cannot be written.
    """
    if weights.sha256:
        try:
            return Fetched(weights, hub.fetch(weights, source=source, progress=progress))
        except IntegrityError as error:
            name = lock.full_name(match, weights.tag)
            pinned = pins().get(name)
            if pinned is None:
                raise
            hint = f"{name} was {since(pinned)}; {forgetting(name)} accepts other bytes. {error.hint}"
            raise IntegrityError(error.message, hint=hint) from None
    name = lock.full_name(match, weights.tag)
    if not weights.determines_bytes and (reason := policy.refuses_first_use()):
        raise UnpinnedError(
            f"{name} is not pinned: its manifest has no sha256 for {weights.path}, and {reason}.",
            hint=f"zoo manifest pin {name} records its sha256 in the manifest; zoo fetch {name}, where first use is "
            f"allowed, and zoo lock {name} record it in the project's zoo.lock.",
        )
    pins()  # a damaged lock is an error before a long download
    got = _receive(weights, source, progress)
    repository = lock.repository_of(match, weights)
    if repository:  # whoever served the weights, they are those of the description's commit
        got = got._replace(revision=weights.revision)
    pinned = pin(name, got, match.source.distribution, match.source.version, weights.digest, repository)
    return Fetched(lock.pinned(weights, pinned), got.path)


def pin(
    name: str,
    got: Received,
    distribution: str = "",
    version: str = "",
    digest: str = "",
    repository: lock.Repository | None = None,
) -> Locked:
    """Writes what was received into the user's lock; raises LockError if that has other bytes for ``name``."""
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
    if add(name, locked):
        commit = f", commit {locked.revision[:7]}" if locked.revision else ""
        text = "%s: pinned on first use, sha256 %s...%s"
        logging.getLogger("zoo").warning(text, name, locked.sha256[:8], commit)
    return locked


def _receive(weights: Weights, source: str | None, progress: "Progress | None") -> Received:
    """Returns the file, with the sha256 that the hub states, or else that of what the first source serves."""
    stated = weights
    if source is None:
        try:
            stated = pinning.resolve(weights)
        except IntegrityError:
            raise
        except HubError as error:  # offline, or a hub that states nothing; a source may have the file all the same
            logging.getLogger("zoo").info("%s: %s", weights.name, error.message)
    if not stated.sha256:
        return hub.fetch_unpinned(stated, source=source, progress=progress)
    file = hub.fetch(stated, progress=progress)
    return Received(file, stated.sha256, file.stat().st_size, hub.name_of(stated.hub), stated.revision)


# ---- the user's lock ---------------------------------------------------------------------------


def place() -> Path:
    """Returns where the user's lock is, or would be written."""
    return storage.config_folder() / lock.NAME


def pins() -> Pins:
    """Returns the user's pins by full name; raises :class:`LockError` if the file cannot be read."""
    return _read().weights


def follow(match: Found, weights: Weights) -> Weights:
    """Returns ``weights`` as the user's lock has them.

    Raises :class:`LockError` if their manifest now has other bytes.
    """
    every = pins()
    name = lock.name_in(every, match, weights.tag) if every else ""
    pinned = every.get(name)
    if pinned is None:
        return weights
    hint = f"It was {since(pinned)}. Find out which bytes are right; {forgetting(name)} accepts the present ones."
    return lock.hold(name, pinned, match, weights, place(), hint)


def entries(listed: Iterable[Listed]) -> Iterator[tuple[Listed, Weights]]:
    """Yields all weights of ``listed``; those without a sha256 with that of the user's lock, if it has one."""
    held = pins()
    for entry in listed:
        for weights in entry.weights:
            own = None if weights.sha256 else held.get(lock.name_in(held, entry, weights.tag))
            yield entry, lock.pinned(weights, own) if own else weights


def add(name: str, locked: Locked) -> bool:
    """Pins ``name``; False if it was pinned to the same bytes. Raises :class:`LockError` if to others."""
    is_new = False

    def with_it(before: Pins) -> Pins:
        nonlocal is_new
        other = before.get(name)
        if other is None:
            is_new = True
            return {**before, name: locked}
        if (other.sha256, other.repository) != (locked.sha256, locked.repository):
            raise LockError(
                f"{name} has {_bytes_of(locked)} at {locked.source}, but {place()} has {_bytes_of(other)}.",
                hint=f"It was {since(other)}. {forgetting(name)} accepts other bytes.",
            )
        return before

    _change(with_it)
    return is_new


def _bytes_of(held: Locked) -> str:
    about = held.repository
    return f"sha256 {held.sha256}" + (f" and {about.description} with sha256 {about.sha256}" if about else "")


def forget(names: Iterable[str]) -> None:
    """Removes the pins of ``names``, all or none; raises :class:`UnknownNameError`."""
    gone = set(names)
    for name in sorted(gone):
        if name not in (known := pins()):
            raise UnknownNameError.of("pinned name", name, known, hint=f"{place()} has no such name.")
    _change(lambda before: {name: held for name, held in before.items() if name not in gone})


def since(held: Locked) -> str:
    """Returns when and from where a name was pinned."""
    return f"pinned on first use{f' on {held.date}' if held.date else ''}{f' from {held.source}' * bool(held.source)}"


def forgetting(name: str) -> str:
    return f"zoo lock --user --forget {name}"


def _read() -> Lock:
    file = place()
    if not os.path.lexists(file):
        return lock.EMPTY
    hint = "Repair it, or move it away: then names are pinned anew on their next use."
    return toml.read(file, Lock, LockError, hint)


def _change(edit: Callable[[Pins], Pins]) -> None:
    """Applies ``edit`` to the pins of the file, until they are as it wants them.

    A lock makes other processes wait. On file systems without locks, the file is read again just before it is replaced,
    and a moment later, since others may have replaced it meanwhile.
    """
    file = place().resolve()  # which may be a link, as in a repository of configuration files
    try:
        with storage.explained(file, 0), storage.lock(file.with_name(f"{lock.NAME}.lock")):
            while (after := Lock(version=1, weights=edit((before := _read()).weights))) != before:  # without defaults
                content = lock.render(after, _HEAD).encode()
                if len(content) > toml.LARGEST:
                    hint = f"Remove names that you do not use: {forgetting('NAME')}..."
                    raise LockError(
                        f"{file} would have {len(content):,} bytes, at most {toml.LARGEST:,} fit.", hint=hint
                    )
                with suppress(_ChangedError), storage.beside(file) as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())  # it takes longest, so that it comes before the last look
                    if _read() != before:
                        raise _ChangedError
                time.sleep(_SETTLING)
    except StorageError as error:
        raise StorageError(error.message, hint=f"{error.hint} ZOO_CONFIG sets the folder.".strip()) from error


class _ChangedError(Exception):
    """Another process replaced the file while this one was about to."""
