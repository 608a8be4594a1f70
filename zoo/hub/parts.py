"""Unfinished downloads: each is written by one process only, under its own name.

``parts/<key>.<machine>-<process>-<random>.part`` is being written. Where its process ends it without success it
becomes ``parts/<key>.part``, for the next fetch to continue; what a process that was killed left is continued as
well. A part is taken over by renaming it, which only one process can do. So locks save work and no more: on a
network mount if they do nothing, two processes fetch the same file twice, and both get it.
"""

import errno
import hashlib
import os
import platform
import re
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from zoo.hub.cache import root
from zoo.hub.hashes import Hashes
from zoo.system import storage

_GONE = 3600
"""Seconds without a byte after which a process of another machine is taken to have ended."""

_OWNED = re.compile(r"(?P<key>.+)\.(?P<machine>[0-9a-f]{8})-(?P<process>\d{1,9})-[0-9a-f]+\.(part|link)")


def released(key: str) -> Path:
    """The path of an unfinished download of ``key``."""
    return root() / "parts" / f"{key}.part"


def own(key: str, suffix: str = "part") -> Path:
    """A new path in the folder of parts for this process."""
    return root() / "parts" / f"{key}.{machine()}-{os.getpid()}-{os.urandom(4).hex()}.{suffix}"


def is_being_written(path: Path) -> bool:
    """Whether a running process writes ``path``, as far as its name and time show."""
    match = _OWNED.fullmatch(path.name)
    if match is None:
        return False
    if match["machine"] != machine() or os.name != "posix":
        return time.time() - path.lstat().st_mtime < _GONE
    try:
        os.kill(int(match["process"]), 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        pass
    return True


def discard(key: str) -> None:
    """Removes unfinished downloads of ``key`` after a complete one."""
    for path in _left(key):
        path.unlink(missing_ok=True)


class Part:
    """An unfinished download; the part that an earlier process left is hashed again and continued.

    ``algorithm`` is another one than sha256 to hash with, empty for none.

    If the ``with`` block ends early, the part is kept for the next process.
    """

    def __init__(self, key: str, algorithm: str = "") -> None:
        self.path = own(key)
        self._key = key
        self._algorithm = algorithm
        self._is_whole = False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._opened = _take_over(key, self.path) or storage.open_regular(self.path, "x+b", follow=False)
        self._hashes = Hashes(algorithm)
        self._hashes.read(self._opened)
        self.length = self._opened.tell()

    def __enter__(self) -> "Part":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()
        if self._is_whole:
            return
        with suppress(FileNotFoundError):  # somebody has emptied the cache
            if self.length:
                self.path.replace(released(self._key))
            else:
                self.path.unlink()

    def write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            rest = rest[self._opened.write(rest) :]
        self._hashes.update(chunk)
        self.length += len(chunk)

    def restart(self) -> None:
        self._opened.seek(0)
        self._opened.truncate()
        self._hashes = Hashes(self._algorithm)
        self.length = 0

    @property
    def sha256(self) -> str:
        """The sha256 of the bytes so far."""
        return self._hashes.sha256

    @property
    def digest(self) -> str:
        """Their hash by the other algorithm, ``algorithm:hex``, or an empty string."""
        return self._hashes.digest

    def finish(self) -> None:
        """Waits until everything is on the disk."""
        os.fsync(self._opened.fileno())
        self._is_whole = True


def _take_over(key: str, path: Path) -> BinaryIO | None:
    """The longest part of an earlier process, renamed to ``path``; None if there is none."""
    for left in _left(key):
        try:
            if _is_ours(left.lstat()):
                left.rename(path)
                return _checked(storage.open_regular(path, "r+b", follow=False))
        except OSError:  # another process was faster, or somebody has put something else there
            path.unlink(missing_ok=True)
    return None


def _left(key: str) -> list[Path]:
    """The parts of earlier processes for ``key`` that no running one writes, longest first."""
    found = []
    for path in (root() / "parts").glob(f"{key}.*"):
        match = _OWNED.fullmatch(path.name)
        with suppress(FileNotFoundError):  # another process was faster
            if path == released(key) or (match and match["key"] == key and not is_being_written(path)):
                found.append((path.lstat().st_size, path))
    return [path for _, path in sorted(found, reverse=True)]


def _checked(opened: BinaryIO) -> BinaryIO:
    """``opened``, after checking again that it is our file, which may have been replaced since."""
    if not _is_ours(os.fstat(opened.fileno())):
        opened.close()
        raise PermissionError(errno.EPERM, "another user's file")
    return opened


def _is_ours(status: os.stat_result) -> bool:
    """Whether it is a regular file of this user without another hard link, by which others could write to it."""
    is_own = os.name != "posix" or status.st_uid == os.geteuid()
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and is_own


def machine() -> str:
    """The name of this machine in the names of parts."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]
