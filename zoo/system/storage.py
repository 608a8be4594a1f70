"""Atomic writes, locks, hashes, errors of the disk; where the cache, the configuration and a project's files are."""

import errno
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from zoo.errors import StorageError

CHUNK = 1 << 16
"""Bytes read and written at a time. Larger writes use larger pages of the system's file
cache, and touching one byte of a mapped file then counts as a whole page."""

_PATIENCE = 30.0
"""Seconds to wait for another process that changes a file."""

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)  # Windows has neither
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)


@contextmanager
def beside(file: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Yields a new file in the folder of ``file``, which replaces it when the block ends.

    If the block raises, it is removed and ``file`` is unchanged. It has those bits of ``mode`` that the umask leaves,
    and its name is random, so that nobody can have put a link there.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(file)
    with open(part, "xb", opener=lambda path, flags: os.open(path, flags, mode)) as stream:
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            os.replace(part, file)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def replace(file: Path, data: bytes) -> None:
    """Replaces the contents of ``file`` by ``data`` atomically.

    Raises :class:`StorageError` if that fails; ``file`` is unchanged then.
    """
    with explained(file, len(data)), beside(file) as stream:
        for start in range(0, len(data), CHUNK):
            stream.write(memoryview(data)[start : start + CHUNK])


def create(file: Path, data: bytes) -> bool:
    """Writes a new file with ``data``, whole as soon as it has its name; returns False if there is one of that name.

    Of several processes exactly one creates it, also on file systems without locks. Raises :class:`StorageError`.
    """
    with explained(file, len(data)):
        file.parent.mkdir(parents=True, exist_ok=True)
        part = part_of(file)
        try:
            _write_new(part, data)
            try:
                os.link(part, file)
            except FileExistsError:
                return part.stat().st_nlink > 1  # a server of NFS that was asked twice refuses its own link
            except (OSError, NotImplementedError):  # a file system without links
                try:
                    _write_new(file, data)
                except FileExistsError:
                    return False
        finally:
            part.unlink(missing_ok=True)
        sync_folder(file.parent)
    return True


def _write_new(file: Path, data: bytes) -> None:
    with file.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Holds ``file`` for one process that reads, changes and replaces it; the others wait.

    By an exclusive file beside it, as git does, so that it works on every file system. Raises :class:`StorageError`
    after a time: a process that was killed leaves the file, and only people know that.
    """
    mark = file.with_name(f".{file.name}.lock")
    end = time.monotonic() + _PATIENCE
    with explained(mark, 0):
        file.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                mark.open("xb").close()
                break
            except FileExistsError:
                if time.monotonic() > end:
                    raise StorageError(
                        f"{file} is being changed by another process: {mark} has been there for {_PATIENCE:g} s.",
                        hint="If no other zoo command writes it, one was killed: remove that file.",
                    ) from None
            time.sleep(0.02)
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


def append(file: Path, data: bytes) -> None:
    """Appends ``data`` to ``file``; raises :class:`StorageError`, possibly after writing a part of it."""
    with explained(file, len(data)), file.open("ab") as stream:
        stream.write(data)


def open_regular(file: Path, mode: str = "rb", *, follow: bool = True) -> BinaryIO:
    """Opens a regular file, unbuffered if ``mode`` also writes; with ``follow=False`` not through a link.

    Raises OSError at once for everything else: opening a pipe would wait for its other end, and a device may never end.
    """

    def opener(path: str, flags: int) -> int:
        return os.open(path, flags | _NONBLOCK | (0 if follow else _NOFOLLOW), 0o666)

    stream = open(file, mode, buffering=0 if "+" in mode else -1, opener=opener)  # noqa: SIM115  # the caller closes it
    opened = cast(BinaryIO, stream)
    if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
        opened.close()
        raise OSError(errno.EINVAL, "not a regular file", str(file))
    return opened


def read_bounded(file: Path, most: int) -> bytes:
    """Returns the content of a regular file of at most ``most`` bytes: the one way to read a file that may be hostile.

    Raises OSError at once for everything else, also for a sparse file that only states its size.
    """
    with open_regular(file) as opened:
        size = os.fstat(opened.fileno()).st_size
        content = opened.read(size + 1) if size <= most else b""
    if len(content) > most or size > most:
        raise OSError(errno.EFBIG, f"{max(size, len(content)):,} bytes, expected at most {most:,}", str(file))
    return content


def read_json(file: Path, most: int = 1 << 28) -> Any:
    """Returns the JSON in a regular file of at most ``most`` bytes; raises OSError or ValueError for anything else."""
    try:
        return json.loads(read_bounded(file, most))
    except RecursionError:
        raise ValueError("too deeply nested") from None


def sha256_of(file: Path | BinaryIO) -> str:
    """Returns the sha256 of a regular file, or of the rest of an open one, as 64 hex digits.

    Raises OSError as :func:`open_regular`.
    """
    if isinstance(file, Path):
        with open_regular(file) as opened:
            return sha256_of(opened)
    hasher = hashlib.sha256()
    while chunk := file.read(CHUNK):
        hasher.update(chunk)
    return hasher.hexdigest()


def sync_folder(folder: Path) -> None:
    """Waits until the names in ``folder`` are on the disk."""
    if os.name == "posix":  # Windows cannot open folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def refuse_links(root: Path, path: Path) -> None:
    """Raises :class:`StorageError` if ``path``, or a folder between ``root`` and it, is a symbolic link.

    Otherwise, others who can write to a shared ``root`` could choose which file is overwritten.
    """
    for place in (path, *path.parents):
        if place == root:
            return
        if place.is_symlink():
            hint = f"Remove it, or use the folder that it points to: {place.resolve()}."
            raise StorageError(f"{place} is a symbolic link; Zoo does not write through links.", hint=hint)


@contextmanager
def lock(file: Path) -> Iterator[None]:
    """Holds a lock in one thread of one process at a time; the system frees it when the process dies.

    It only saves work. Everything must work without it, since locks have no effect on some file systems. If it
    cannot be acquired, the block runs without it.
    """
    with ExitStack() as stack:
        try:
            make_folder(file.parent)
            _acquire(file, stack)
        except (FileExistsError, NotADirectoryError):  # a file in place of the folder
            raise
        except (OSError, NotImplementedError):  # another user's, or a file system without locks
            pass
        yield


def _acquire(file: Path, stack: ExitStack) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        from filelock import FileLock

        stack.enter_context(FileLock(file).acquire())
        return
    # Not FileLock, which replaces a missing flock by a marker that outlives a killed process of another machine.
    flags = os.O_CREAT | _NOFOLLOW | _NONBLOCK  # not through a link, nor waiting as a pipe would let us
    try:
        descriptor = os.open(file, os.O_RDWR | flags, 0o666)
        share(descriptor, file.parent)
    except OSError:  # another user's can be locked all the same
        descriptor = os.open(file, os.O_RDONLY | flags & ~os.O_CREAT)
    stack.callback(os.close, descriptor)
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def is_at(descriptor: int, path: Path) -> bool:
    """Returns whether ``path`` still names the file that is open."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


# ---- folders that a group shares: setgid, and writable by the group -----------------------------


def make_folder(folder: Path) -> None:
    """Makes ``folder`` and the folders above it; in a shared folder, its members may write to the new ones too."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_folder(folder.parent)
    if not (mode := _shared(folder.parent)):
        folder.mkdir(exist_ok=True)
        return
    new = folder.with_name(f".{folder.name}.{os.urandom(4).hex()}")  # others may use it once it has its mode
    new.mkdir()
    try:
        new.chmod(mode)
        new.rename(folder)
    except OSError:
        new.rmdir()
        if not folder.is_dir():
            raise


def share(descriptor: int, folder: Path) -> None:
    """Gives a new file in a shared ``folder`` to the group, whatever the umask; does nothing elsewhere."""
    if mode := _shared(folder):
        with suppress(OSError):  # another user's
            status = os.fstat(descriptor)
            if (wanted := stat.S_IMODE(status.st_mode) | mode & 0o066) != stat.S_IMODE(status.st_mode):
                os.fchmod(descriptor, wanted)


def is_shareable(file: Path, folder: Path) -> bool:
    """Returns whether everyone who may read files in ``folder`` may read ``file``, if ``folder`` is shared."""
    return not _shared(folder) & 0o044 & ~file.stat().st_mode


def _shared(folder: Path) -> int:
    """Returns the mode of ``folder`` if it is shared by a group, or 0."""
    mode = folder.stat().st_mode
    return stat.S_IMODE(mode) if os.name == "posix" and mode & stat.S_ISGID and mode & stat.S_IWGRP else 0


def discard_parts(file: Path) -> None:
    """Removes the temporary files of a process that was killed while it replaced ``file``."""
    for part in parts_of(file):
        part.unlink()


def part_of(file: Path) -> Path:
    """Returns a new name beside ``file`` for what will be moved there."""
    return file.with_name(f"{_prefix(file)}{os.urandom(6).hex()}")


def parts_of(file: Path) -> list[Path]:
    """Returns the temporary files of processes that replace ``file``, or were killed while they did."""
    return [*file.parent.glob(f"{_prefix(file)}*")]


def is_part(path: Path) -> bool:
    """Returns whether ``path`` is such a temporary file, by its name."""
    return re.fullmatch(r"\..+\.part-[0-9a-f]{12}", path.name) is not None


def _prefix(file: Path) -> str:
    return f".{file.name}.part-"


@contextmanager
def explained(file: Path, size: int) -> Iterator[None]:
    """Converts an OSError while writing ``size`` bytes to ``file`` to a :class:`StorageError`."""
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
        return f"It takes {size:,} bytes, but only {disk_usage(place).free:,} are free. Free some space."
    if error.errno == errno.EFBIG:
        return f"It takes {size:,} bytes, more than the file size limit. Raise the limit (ulimit -f)."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "Check the permissions, or choose another folder."
    return ""


def cache_folder() -> Path:
    """Returns the folder of Zoo's cache, read from the environment in every call."""
    if chosen := os.environ.get("ZOO_CACHE"):
        return Path(os.path.expanduser(chosen))  # Path's own raises if there is no such user
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "zoo"


def config_folder() -> Path:
    """Returns the folder of the user's configuration, read from the environment in every call."""
    if chosen := os.environ.get("ZOO_CONFIG"):
        return Path(os.path.expanduser(chosen))
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "zoo"


def project_file(name: str, variable: str) -> Path | None:
    """Returns the project's file ``name``, or None.

    If the environment's ``variable`` is set, it is that file, even if it does not exist. Otherwise it is looked for in
    the working directory and, within a repository, in its parent folders up to the one with ``.git``.
    """
    if chosen := os.environ.get(variable):
        return Path(chosen).expanduser()
    return next(iter(_nearest(name, _projects()[:1])), None)


def project_files(name: str, variable: str) -> list[Path]:
    """Returns the same, and those of all repositories around the project, innermost first."""
    if chosen := os.environ.get(variable):
        return [Path(chosen).expanduser()]
    return _nearest(name, _projects())


def _projects() -> list[list[Path]]:
    """Returns the folders from the working directory to the root of its repository, then of the one around it."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it was removed
        return []
    projects: list[list[Path]] = [[]]
    for folder in (here, *here.parents):
        projects[-1].append(folder)
        if os.path.lexists(folder / ".git"):
            projects.append([])
    return projects[:-1] or [[here]]


def _nearest(name: str, projects: list[list[Path]]) -> list[Path]:
    there = ([folder / name for folder in folders if os.path.lexists(folder / name)] for folders in projects)
    return [files[0] for files in there if files]
