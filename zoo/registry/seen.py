"""What the import of a plugin depended on, and whether it is unchanged."""

import os
import stat
import time
from collections.abc import Iterable

import msgspec

from zoo.registry.search_path import SearchPath

Stamp = tuple[int, int]
"""A file's time of modification in nanoseconds, and its size; -1 for a folder."""

_TICK = 20_000_000
"""Nanoseconds: file systems date changes no finer than this."""


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """What an import looked for and read.

    ``modules`` has the places of each top-level module that was looked for, ``files`` the stamp of each file and folder
    that was read, None if it did not exist. ``variables`` has a digest of each environment variable, None if not set.
    """

    modules: dict[str, str] = {}
    files: dict[str, Stamp | None] = {}
    variables: dict[str, str | None] = {}

    def is_older_than(self, moment: int) -> bool:
        """Whether no file was changed at, or just before, ``moment`` in nanoseconds.

        A file that was can change again without a new stamp. A folder often changes during an import, which puts
        compiled files there.
        """
        return all(stamp is None or stamp[1] < 0 or stamp[0] < moment - _TICK for stamp in self.files.values())


def look_at(path: SearchPath, modules: Iterable[str], files: Iterable[str], variables: Iterable[str] = ()) -> Seen:
    """The present state of what an import looked for."""
    return Seen(
        {module: path.place_of(module) for module in modules},
        {file: stamp_of(file) for file in files},
        {name: _digest_of(name) for name in variables},
    )


class Present:
    """The present state, looked up once for any number of questions."""

    def __init__(self, path: SearchPath) -> None:
        self._path = path
        self._stamps: dict[str, Stamp | None] = {}

    def confirms(self, seen: Seen) -> bool:
        """Whether all that an import saw is unchanged."""
        return (
            all(self._path.place_of(module) == place for module, place in seen.modules.items())
            and all(self._stamp_of(file) == stamp for file, stamp in seen.files.items())
            and all(_digest_of(name) == digest for name, digest in seen.variables.items())
        )

    def _stamp_of(self, file: str) -> Stamp | None:
        if file not in self._stamps:
            self._stamps[file] = stamp_of(file)
        return self._stamps[file]


def stamp_of(file: str) -> Stamp | None:
    """The stamp of a file or folder; None if it does not exist."""
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, -1 if stat.S_ISDIR(status.st_mode) else status.st_size


def settle(file: str) -> None:
    """Waits until a change of ``file`` would be seen: of one that was changed just now, a moment."""
    stamp = stamp_of(file)
    age = time.time_ns() - stamp[0] if stamp else _TICK
    if 0 <= age < _TICK:
        time.sleep((_TICK - age) / 1e9)


def _digest_of(variable: str) -> str | None:
    """Not the value itself, which may be a token."""
    value = os.environ.get(variable)
    if value is None:
        return None
    import hashlib

    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()[:16]
