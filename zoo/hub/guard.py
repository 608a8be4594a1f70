"""Context managers for work in the cache: locks, disk space, and error messages."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from zoo.errors import HubError
from zoo.hub.cache import root
from zoo.system import storage


@contextmanager
def lock(key: str) -> Iterator[None]:
    """The lock of a file of the cache: :func:`zoo.system.storage.lock`."""
    with storage.lock(root() / "locks" / f"{key}.lock"):
        yield


def require_space(wanted: int, what: str) -> None:
    """Raises OSError if ``wanted`` more bytes do not fit on the disk."""
    from shutil import disk_usage

    usage = disk_usage(root())
    if usage.total and wanted > usage.free:
        raise OSError(errno.ENOSPC, f"{what} needs {wanted:,} more bytes, but only {usage.free:,} are free")


@contextmanager
def explained() -> Iterator[None]:
    """Converts an OSError of the cache to a HubError with a hint."""
    try:
        yield
    except OSError as error:
        move = "set ZOO_CACHE to a folder"
        reason = f"{error.strerror or error}{f' ({error.filename})' if error.filename else ''}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message, hint = "is full", f"Free some space there, or {move} on a larger disk."
        elif isinstance(error, PermissionError) or error.errno == errno.EROFS:
            message, hint = "cannot be written", f"Check the permissions, or {move} that you own."
        elif isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
            message, hint = "does not have the layout of a cache", f"Move the file away, or {move} that is empty."
        else:
            message, hint = "cannot be used", f"Check the disk, or {move} on another one."
        raise HubError(f"The cache {root()} {message}: {reason}", hint=hint) from error
