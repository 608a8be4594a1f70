"""Imports third-party plugins with a time limit, and skips those whose import ended a process.

A plugin's import may hang, exit or crash; it runs in this process, so that all else would go with it. A
note in the cache says which import is under way: what a process leaves behind is the name of what ended it.
"""

import contextlib
import hashlib
import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from zoo.system import storage

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # None says that there is no such module

PATIENCE = 30.0
"""Seconds that the import of one plugin may take."""


class TookTooLong(BaseException):
    """Not an Exception, so that a plugin's own ``except Exception`` cannot catch it."""

    def __str__(self) -> str:
        return f"it took longer than {PATIENCE:g} s"


@contextlib.contextmanager
def watched(name: str, identity: str) -> Iterator[None]:
    """A context for importing the plugin ``name``; ``identity`` identifies the state of its code.

    Raises :class:`TookTooLong` after ``PATIENCE``, in the main thread. If the process ends within the context, or this
    is raised, :func:`failure` reports it from then on.
    """
    note = _take_note(name, identity)
    try:
        with _limited():
            yield
    except TookTooLong as error:
        _conclude(note, identity, f"importing it took longer than {PATIENCE:g} s")
        raise error
    except BaseException:
        _conclude(note, identity, "")
        raise
    _conclude(note, identity, "")


def failure(name: str, identity: str) -> str:
    """How the last import of the plugin in this state failed without an exception; empty if it did not."""
    for file in _notes(name):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError), file.open(encoding="utf-8") as stream:
            if fcntl is not None:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)  # BlockingIOError: it is being imported now
            said = json.load(stream)
            if said["identity"] == identity:
                return str(said["reason"] or "the last process that imported it exited or crashed during the import")
    return ""


def forget(name: str) -> None:
    """Removes the record, so that the plugin is imported again."""
    for file in _notes(name):
        file.unlink(missing_ok=True)


def _notes(name: str) -> list[Path]:
    folder = storage.cache_folder() / "imports"
    return sorted(folder.glob(f"{_key(name)}-*")) if folder.is_dir() else []


def _key(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _take_note(name: str, identity: str) -> "tuple[int, Path] | None":
    """An open, locked file in the cache, None if the cache is not writable: then nothing is recorded."""
    if fcntl is None:
        return None
    folder = storage.cache_folder() / "imports"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, file = tempfile.mkstemp(prefix=f"{_key(name)}-", dir=folder)
        fcntl.flock(handle, fcntl.LOCK_EX)  # the system gives it back, however the process ends
        os.write(handle, json.dumps({"identity": identity, "reason": ""}).encode())
    except OSError:
        return None
    return handle, Path(file)


def _conclude(note: "tuple[int, Path] | None", identity: str, reason: str) -> None:
    if note is None:
        return
    handle, file = note
    with contextlib.suppress(OSError):
        if reason:
            os.pwrite(handle, json.dumps({"identity": identity, "reason": reason}).encode(), 0)
        else:
            file.unlink()
    os.close(handle)


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Raises :class:`TookTooLong` after ``PATIENCE``, if signals allow it; the caller's own timer is kept."""
    before = signal.getitimer(signal.ITIMER_REAL)[0] if hasattr(signal, "setitimer") else 0.0
    is_possible = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if not is_possible or 0 < before <= PATIENCE:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise TookTooLong

    handler = signal.signal(signal.SIGALRM, stop)
    start = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if before:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, before - (time.monotonic() - start)))
