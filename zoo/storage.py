"""Files that are written whole or not at all, and what to say where the disk will not take them; the cache's place."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import StorageError


def replace(file: Path, data: bytes) -> None:
    """Writes ``data`` beside ``file`` and moves it into place once it is on the disk.

    Raises :class:`StorageError` where that cannot be done; ``file`` stays as it was then.
    """
    with explained(file, len(data)):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix=_prefix(file), delete=False) as part:
            try:
                part.write(data)
                part.flush()
                os.fsync(part.fileno())
                os.chmod(part.name, 0o644)
                os.replace(part.name, file)
            except BaseException:
                os.unlink(part.name)
                raise


def append(file: Path, data: bytes) -> None:
    """Writes ``data`` at the end of ``file``; raises :class:`StorageError`, having written a part of it or nothing."""
    with explained(file, len(data)), file.open("ab") as stream:
        stream.write(data)


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
