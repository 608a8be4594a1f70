"""The user's lock: the names that this user's processes pinned on first use, in the format of ``zoo.lock``.

It lies in the folder of the configuration and not in the cache: an emptied cache must not forget what names meant.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from zoo.errors import LockError, StorageError, UnknownNameError
from zoo.manifest import Weights
from zoo.registry import Found, Listed
from zoo.system import storage
from zoo.trust import lock, project
from zoo.trust.lock import Lock, Locked

_HEAD = "# Weights that Zoo pinned on first use. zoo lock --user lists them; zoo lock --user --forget NAME removes one."

_SETTLING = 0.02
"""Seconds: longer than another process takes from its last look at the file to its replacement."""

Pins = Mapping[str, Locked]


def place() -> Path:
    """Where the user's lock is, or would be written."""
    return storage.config_folder() / lock.NAME


def pins() -> Pins:
    """The user's pins by full name; raises :class:`LockError` if the file cannot be read."""
    return _read().weights


def follow(found: Found, weights: Weights) -> Weights:
    """``weights`` as the user's lock has them; raises :class:`LockError` if their manifest now has other bytes."""
    known = pins()
    name = lock.name_in(known, found, weights.tag) if known else ""
    held = known.get(name)
    if held is None:
        return weights
    hint = f"It was {since(held)}. Find out which bytes are right; {forgetting(name)} accepts the present ones."
    return lock.hold(name, held, found, weights, place(), hint)


def entries(listed: Iterable[Listed]) -> Iterator[tuple[Listed, Weights]]:
    """All weights of ``listed``; those without a sha256 with that of the user's lock, if it has one."""
    held = pins()
    for entry in listed:
        for weights in entry.weights:
            own = None if weights.sha256 else held.get(lock.name_in(held, entry, weights.tag))
            yield entry, lock.pinned(weights, own) if own else weights


def add(name: str, held: Locked) -> bool:
    """Pins ``name``; False if it was pinned to the same bytes. Raises :class:`LockError` if to others."""
    is_new = False

    def with_it(before: Pins) -> Pins:
        nonlocal is_new
        other = before.get(name)
        if other is None:
            is_new = True
            return {**before, name: held}
        if (other.sha256, other.repository) != (held.sha256, held.repository):
            raise LockError(
                f"{name} has {_bytes_of(held)} at {held.source}, but {place()} has {_bytes_of(other)}.",
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
    """When and from where a name was pinned."""
    return f"pinned on first use{f' on {held.date}' if held.date else ''}{f' from {held.source}' * bool(held.source)}"


def forgetting(name: str) -> str:
    return f"zoo lock --user --forget {name}"


def _read() -> Lock:
    file = place()
    if not os.path.lexists(file):
        return lock.EMPTY
    hint = "Repair it, or move it away: then names are pinned anew on their next use."
    return project.read(file, Lock, LockError, hint)


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
                if len(content) > project.LARGEST:
                    hint = f"Remove names that you do not use: {forgetting('NAME')}..."
                    raise LockError(
                        f"{file} would have {len(content):,} bytes, at most {project.LARGEST:,} fit.", hint=hint
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
