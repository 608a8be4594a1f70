"""Files that are written whole or not at all, and what to say where the disk will not take them; the cache's place."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from zoo.errors import StorageError

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)  # Windows has neither
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)


@contextmanager
def beside(file: Path) -> Iterator[BinaryIO]:
    """A new file in the folder of ``file``, moved into its place when the block ends and all is on the disk.

    It is removed if the block raises; ``file`` stays as it was then. Its mode is the one that the umask allows,
    and its name cannot be foreseen, so that nobody can have put a link there.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{_prefix(file)}{os.urandom(6).hex()}")
    with part.open("xb") as stream:
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            os.replace(part, file)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def replace(file: Path, data: bytes) -> None:
    """Writes ``data`` beside ``file`` and moves it into place once it is on the disk.

    Raises :class:`StorageError` where that cannot be done; ``file`` stays as it was then.
    """
    with explained(file, len(data)), beside(file) as stream:
        stream.write(data)


def append(file: Path, data: bytes) -> None:
    """Writes ``data`` at the end of ``file``; raises :class:`StorageError`, having written a part of it or nothing."""
    with explained(file, len(data)), file.open("ab") as stream:
        stream.write(data)


def open_regular(file: Path, mode: str = "rb", *, follow: bool = True) -> BinaryIO:
    """Opens a regular file, unbuffered if ``mode`` also writes; with ``follow=False`` not through a link.

    Raises OSError for everything else, at once: opening a pipe waits for its other end, and a device may never end.
    """

    def opener(path: str, flags: int) -> int:
        return os.open(path, flags | _NONBLOCK | (0 if follow else _NOFOLLOW), 0o666)

    stream = open(file, mode, buffering=0 if "+" in mode else -1, opener=opener)  # noqa: SIM115  # the caller closes it
    opened = cast(BinaryIO, stream)
    if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
        opened.close()
        raise OSError(errno.EINVAL, "not a regular file", str(file))
    return opened


def refuse_links(root: Path, path: Path) -> None:
    """Raises :class:`StorageError` if ``path``, or a folder between ``root`` and it, is a symbolic link.

    Others who may write to a shared ``root`` could otherwise choose what is overwritten.
    """
    for place in (path, *path.parents):
        if place == root:
            return
        if place.is_symlink():
            hint = f"Remove it, or name the folder that it points to: {place.resolve()}."
            raise StorageError(f"{place} is a symbolic link, which is not written through.", hint=hint)


def discard_parts(file: Path) -> None:
    """Removes what a process that was killed while it replaced ``file`` left beside it."""
    for part in file.parent.glob(f"{_prefix(file)}*"):
        part.unlink()


def _prefix(file: Path) -> str:
    return f".{file.name}.part-"


@contextmanager
def explained(file: Path, size: int) -> Iterator[None]:
    """Turns an OSError while ``size`` bytes are written to ``file`` into a :class:`StorageError`."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{file} cannot be written: {error.strerror or error}.", hint=_needed(file, size, error)
        ) from error


def _needed(file: Path, size: int, error: OSError) -> str:
    from shutil import disk_usage

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = next(folder for folder in file.absolute().parents if folder.exists())
        return f"It takes {size:,} bytes, {disk_usage(place).free:,} are free there. Make room."
    if error.errno == errno.EFBIG:
        return f"It takes {size:,} bytes, more than a file may have here. Raise the limit (ulimit -f)."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "Give yourself write permission there, or choose another place."
    return ""


def cache_folder() -> Path:
    """The folder of Zoo's cache, from the environment at every call."""
    if chosen := os.environ.get("ZOO_CACHE"):
        return Path(os.path.expanduser(chosen))  # Path's own raises where there is no such user
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "zoo"
