"""When a cached file was last used, and whether a running process uses it now.

Each file has an empty ``<file>.used`` beside it. Its modification time is when the file was last fetched or
loaded; a process that has loaded the file holds a shared lock (flock) on it until it ends, so that
``zoo cache prune`` can see that it is in use. The system releases the lock of a process that dies, however
it dies. A forked child keeps its parent's locks.

What this does not see: programs that read a cached file without Zoo; more than the last ``MOST_HELD`` files
of one process, whose open files are bounded; other machines, if a network file system does not share locks.
On one machine, removal is harmless even then, because a mapped file remains until it is unmapped. A file that
another machine removes from a network file system is gone for all. Windows has no flock, and needs none: it
refuses to remove a file that is mapped.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zoo.system import storage

MOST_HELD = 200
"""Files whose use a process announces at most: each takes a file descriptor."""

_held: OrderedDict[Path, int] = OrderedDict()
_guard = threading.Lock()


def marker_of(file: Path) -> Path:
    return file.with_name(file.name + ".used")


def touch(file: Path) -> None:
    """Marks ``file`` as used now. Does nothing if the cache is read-only."""
    with suppress(OSError):
        descriptor = storage.open_marker(marker_of(file))
        try:
            os.utime(descriptor if os.utime in os.supports_fd else marker_of(file))
        finally:
            os.close(descriptor)


def hold(file: Path) -> None:
    """Marks ``file`` as used by this process until it ends.

    Whoever removes files checks this mark first, so the caller must check afterwards that the file still exists.
    """
    touch(file)
    marker = marker_of(file)
    with _guard, suppress(OSError):
        if marker in _held:
            if storage.is_at(_held[marker], marker):
                _held.move_to_end(marker)
                return
            os.close(_held.pop(marker))
        if (descriptor := _lock_shared(marker)) is not None:
            _held[marker] = descriptor
        while len(_held) > MOST_HELD:
            os.close(_held.popitem(last=False)[1])


def last_used(file: Path) -> float:
    """Seconds since the epoch when ``file`` was last fetched or loaded; if unknown, when it was written."""
    try:
        return marker_of(file).stat().st_mtime
    except OSError:
        return file.stat().st_mtime


def is_held(file: Path) -> bool:
    """Whether a running process uses ``file``, including this one, as far as locks can show."""
    with suppress(OSError):
        if marker_of(file).exists():
            with alone(file) as is_alone:
                return not is_alone
    return False


@contextmanager
def alone(file: Path) -> Iterator[bool]:
    """Yields whether no process uses ``file``; none can start to use it within the ``with`` block."""
    try:
        import fcntl
    except ImportError:  # Windows: the removal itself fails
        yield True
        return
    marker = marker_of(file)
    descriptor = storage.open_marker(marker)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield storage.is_at(descriptor, marker)  # or else another one has just removed both
    finally:
        os.close(descriptor)


def _lock_shared(marker: Path) -> int | None:
    """A descriptor that holds a shared lock on ``marker`` in its place, or None if there are no locks."""
    try:
        import fcntl
    except ImportError:
        return None
    while True:
        descriptor = storage.open_marker(marker)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except OSError:
            os.close(descriptor)
            return None
        if storage.is_at(descriptor, marker):
            return descriptor
        os.close(descriptor)  # removed while we waited, with its file
