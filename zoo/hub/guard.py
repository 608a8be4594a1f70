"""What surrounds work in the cache: one process at a time, room on the disk, and errors that say what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from zoo.errors import HubError
from zoo.hub.cache import root


@contextmanager
def lock(key: str, *, wait: bool = True) -> Iterator[bool]:
    """Held by one thread of one process at a time; the system frees it when the process dies.

    It saves work: nothing may be wrong without it, since some file systems only pretend to lock. One that
    cannot be had is done without. Yields whether it is held, which only those who do not ``wait`` need to ask.
    """
    from filelock import FileLock, Timeout

    file = root() / "locks" / f"{key}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(file).acquire(blocking=wait)
    except Timeout:
        held = None
    except (OSError, NotImplementedError):  # another user's, or a file system without locks
        if not wait:
            raise
        yield True
        return
    if held is None:
        yield False
        return
    with held:
        yield True


def require_space(wanted: int, what: str) -> None:
    """Refuses at once what cannot fit: ``wanted`` bytes are still to come."""
    from shutil import disk_usage

    usage = disk_usage(root())
    if usage.total and wanted > usage.free:
        raise OSError(errno.ENOSPC, f"{what} needs {wanted:,} bytes more, {usage.free:,} are free")


@contextmanager
def explained() -> Iterator[None]:
    """Turns an OSError of the cache into a HubError that says what is needed."""
    try:
        yield
    except OSError as error:
        move = "set ZOO_CACHE to a folder"
        reason = f"{error.strerror or error}{f' ({error.filename})' if error.filename else ''}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message, hint = "is full", f"Free some space there, or {move} on a larger disk."
        elif isinstance(error, PermissionError) or error.errno == errno.EROFS:
            message, hint = "cannot be written", f"Give yourself write permission there, or {move} that is yours."
        elif isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
            message, hint = "is not laid out as a cache", f"Move what is in the way, or {move} that is empty."
        else:
            message, hint = "cannot be used", f"Look at that disk, or {move} on another one."
        raise HubError(f"The cache {root()} {message}: {reason}", hint=hint) from error
