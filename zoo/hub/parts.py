"""Unfinished downloads: each is written by one process only, in a file of its own.

``parts/<key>.<machine>-<process>-<random>.part`` is being written. If its process ends the download without success,
it closes the file and renames it to ``parts/<key>.part``; the next process renames and continues it. The file of a
process that was killed is copied instead: whether a process of another machine or container has ended can only be
guessed, and a wrong guess must not let two processes write to one file. The process that was wrongly given up finds
its file gone, and copies what it has. So locks only save work: without them, two processes fetch the same file
twice, and both get it.
"""

import errno
import hashlib
import os
import platform
import re
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from zoo.hub.cache import CHUNK, Stamp, root, stamp_for
from zoo.system import storage

_GONE = 600
"""Seconds without a byte after which a process is assumed to have ended, if the system cannot tell."""

_FLUSHED = 1 << 25
"""Bytes after which the disk is told to write what has arrived."""

_OWNED = re.compile(r"(?P<key>.+)\.(?P<machine>[0-9a-f]{8})-(?P<process>\d{1,9})-[0-9a-f]+\.(part|link)")


def released(key: str) -> Path:
    """Returns the path of an unfinished download of ``key``."""
    return root() / "parts" / f"{key}.part"


def own(key: str, suffix: str = "part") -> Path:
    """Returns a new path in the folder of parts for this process."""
    return root() / "parts" / f"{key}.{machine()}-{os.getpid()}-{os.urandom(4).hex()}.{suffix}"


def is_being_written(path: Path) -> bool:
    """Returns whether a running process writes ``path``, as far as its name and time show."""
    match = _OWNED.fullmatch(path.name)
    if match is None or time.time() - path.lstat().st_mtime > _GONE:
        return False
    if match["machine"] != machine() or os.name != "posix":
        return True
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
        with suppress(OSError):  # another user's
            path.unlink()


class Hashes:
    """The running sha256 of some bytes, and their hash by another ``algorithm`` unless that is empty."""

    def __init__(self, algorithm: str = "") -> None:
        self._algorithm = algorithm
        names = ["sha256", algorithm] if algorithm else ["sha256"]
        self._hashers = [hashlib.new(name, usedforsecurity=False) for name in names]

    def update(self, chunk: bytes) -> None:
        for hasher in self._hashers:
            hasher.update(chunk)

    def read(self, opened: BinaryIO) -> None:
        """Adds the rest of ``opened``."""
        while chunk := opened.read(CHUNK):
            self.update(chunk)

    @property
    def sha256(self) -> str:
        return self._hashers[0].hexdigest()

    @property
    def digest(self) -> str:
        """``algorithm:hex``, or an empty string."""
        return f"{self._algorithm}:{self._hashers[1].hexdigest()}" if self._algorithm else ""


class Part:
    """An unfinished download; what an earlier process left is hashed again and continued.

    ``algorithm`` is another one than sha256 to hash with, empty for none.

    If the ``with`` block ends early, the part is kept for the next process.
    """

    def __init__(self, key: str, algorithm: str = "") -> None:
        self._key = key
        self._algorithm = algorithm
        self._is_whole = False
        self.path = own(key)
        storage.make_folder(self.path.parent)
        self._opened = _continued(key, self.path) or _new(self.path)
        self._hashes = Hashes(algorithm)
        self._hashes.read(self._opened)
        self.length = self._flushed = self._opened.tell()
        self._flusher = ThreadPoolExecutor(1)
        self._flushing: Future[None] | None = None

    def __enter__(self) -> "Part":
        return self

    def __exit__(self, *_: object) -> None:
        self._flusher.shutdown()  # it uses the file
        self._opened.close()
        if self._is_whole:
            return
        with suppress(OSError):  # somebody has emptied the cache, or another user's part is there
            if self.length:
                self.path.replace(released(self._key))
            else:
                self.path.unlink()

    def write(self, chunk: bytes) -> None:
        _write_all(self._opened, chunk)
        self._hashes.update(chunk)
        self.length += len(chunk)
        self._flush()

    def _flush(self) -> None:
        """Has the disk write in the background, so that little is left to wait for at the end."""
        if self.length - self._flushed < _FLUSHED or (self._flushing and not self._flushing.done()):
            return
        if self._flushing:
            self._flushing.result()  # raises what went wrong: a second fsync may not say so again
        self._flushed = self.length
        self._flushing = self._flusher.submit(os.fsync, self._opened.fileno())

    def restart(self) -> None:
        self._opened.seek(0)
        self._opened.truncate()
        self._hashes = Hashes(self._algorithm)
        self.length = self._flushed = 0

    @property
    def sha256(self) -> str:
        """The sha256 of the bytes so far."""
        return self._hashes.sha256

    @property
    def digest(self) -> str:
        """Their hash by the other algorithm, ``algorithm:hex``, or an empty string."""
        return self._hashes.digest

    def finish(self) -> Stamp:
        """Waits until everything is on the disk; returns the stamp of the file that was written."""
        if self._flushing:
            self._flushing.result()
        if not storage.is_at(self._opened.fileno(), self.path):  # another process wrongly assumed that we had ended
            given_up, self.path = self._opened, own(self._key)
            with given_up:
                given_up.seek(0)
                self._opened = _copied(given_up, self.path)
        os.fsync(self._opened.fileno())
        self._is_whole = True
        return stamp_for(self.sha256, os.fstat(self._opened.fileno()))


def _continued(key: str, path: Path) -> BinaryIO | None:
    """Returns the longest part of an earlier process, opened at its start under the new name ``path``, or None."""
    for left in _left(key):
        try:
            if left == released(key):
                left.rename(path)
                return _ours(storage.open_regular(path, "r+b", follow=False))
            with _ours(storage.open_regular(left, follow=False)) as theirs:
                opened = _copied(theirs, path)
            left.unlink(missing_ok=True)
            opened.seek(0)
            return opened
        except OSError as error:  # another process was faster, or somebody has put something else there
            path.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                left.unlink(missing_ok=True)  # it is fetched again, in the same space
    return None


def _new(path: Path) -> BinaryIO:
    return storage.open_regular(path, "x+b", follow=False)


def _copied(source: BinaryIO, path: Path) -> BinaryIO:
    """Returns the rest of ``source`` in a new file, opened at its end."""
    opened = _new(path)
    try:
        while chunk := source.read(CHUNK):
            _write_all(opened, chunk)
    except BaseException:
        opened.close()
        raise
    return opened


def _write_all(opened: BinaryIO, chunk: bytes) -> None:
    """Writes ``chunk`` to an unbuffered file, which may take less of it at a time."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[opened.write(rest) :]


def _left(key: str) -> list[Path]:
    """Returns the parts of earlier processes for ``key`` that no running one writes, longest first."""
    left = []
    for path in (root() / "parts").glob(f"{key}.*"):
        match = _OWNED.fullmatch(path.name)
        with suppress(OSError):  # another process was faster
            if path == released(key) or (match and match["key"] == key and not is_being_written(path)):
                left.append((path.lstat().st_size, path))
    return [path for _, path in sorted(left, reverse=True)]


def _ours(opened: BinaryIO) -> BinaryIO:
    """Returns ``opened`` if it is a file of this user without another hard link, by which others could write to it."""
    status = os.fstat(opened.fileno())
    if status.st_nlink != 1 or (os.name == "posix" and status.st_uid != os.geteuid()):
        opened.close()
        raise PermissionError(errno.EPERM, "another user's file")
    return opened


@lru_cache
def machine() -> str:
    """Returns the name of this machine in the names of parts.

    On Linux it includes boot and process namespace, because containers may share a host name but no process ids.
    """
    known = [platform.node()]
    with suppress(OSError):
        known.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        known.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:8]
