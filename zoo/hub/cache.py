"""The cache: files named by their sha256, and hashed again when they change.

::

    $ZOO_CACHE                  or $XDG_CACHE_HOME/zoo, or ~/.cache/zoo
    ├── files/<sha256>.safetensors          verified, whole, moved here in one step
    │         <sha256>.safetensors.stamp    the hash, and the stat of the hashed file; its time is that of the last use
    ├── converted/<sha256>-<key>.safetensors    made from that file, which has another format: :mod:`zoo.hub.converted`
    ├── parts/<sha256>.part                 what has arrived so far of a file not yet whole: :mod:`zoo.hub.parts`
    ├── locks/<sha256>.lock                 one process fetches a file, the others wait for it
    ├── quarantine/expected-<sha256>-got-<sha256>
    └── index/<environment>                 the installed plugins: :mod:`zoo.registry.index`

A raw OSError that leaves this module is the cache's own trouble (a full disk, a missing permission), never a
source's: :func:`explained` converts it. Finished files are never written to: they may be mapped.
"""

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import msgspec

from zoo.errors import HubError, IntegrityError
from zoo.manifest import Weights
from zoo.system import storage

CHUNK = storage.CHUNK

UNFINISHED = ".new"
"""The suffix of a small file that is being written beside its place."""

_ABANDONED = 60
"""Seconds after which nobody is writing a small file any more."""

_LARGEST_SMALL = 1 << 16
"""Bytes of a stamp that are read."""

_CLOCK_TICK = 0.01
"""Seconds; file systems stamp times no finer than the kernel's tick, at most this long."""


class Stamp(msgspec.Struct, frozen=True):
    """The sha256 of a file, and its stat when it was hashed."""

    sha256: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


def root() -> Path:
    """Returns the folder of the cache, read from the environment in every call."""
    return storage.cache_folder()


def file_of(weights: Weights, sha256: str) -> Path:
    """Returns the path of these bytes in the cache; the suffix stays, so that other programs know the format."""
    return root() / "files" / (sha256 + PurePosixPath(weights.file).suffix)


def key_of(weights: Weights) -> str:
    """Returns the name of parts and locks: the sha256, or a hash of the location for unpinned entries."""
    if weights.sha256:
        return weights.sha256
    place = "\n".join((weights.hub, weights.repo, weights.file, weights.revision))
    return f"unpinned-{hashlib.sha256(place.encode()).hexdigest()}"


# ---- hashing, once ----------------------------------------------------------------------------


def sha256_of(file: Path, *, deep: bool = False) -> str:
    """Returns the sha256 of ``file``, as 64 hex digits.

    Reads the stamp if the file's stat is still the one that was hashed, the file otherwise, and always with ``deep``.
    """
    last = None
    with suppress(OSError, msgspec.DecodeError):
        last = msgspec.json.decode(read_small(stamp_of(file)), type=Stamp)
        if not deep and last == stamp_for(last.sha256, file.stat()):
            return last.sha256
    with storage.open_regular(file) as opened:
        if _is_recent(os.fstat(opened.fileno()).st_ctime_ns):
            time.sleep(_CLOCK_TICK)  # a change within the tick that wrote the file would leave its times as they are
        before = os.fstat(opened.fileno())
        digest = storage.sha256_of(opened)
        after = os.fstat(opened.fileno())
    if last != (stamp := stamp_for(digest, before)) == stamp_for(digest, after):
        write_stamp(file, stamp)
    return digest


def stamp_for(sha256: str, stat: os.stat_result) -> Stamp:
    return Stamp(sha256, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


def stamp_of(file: Path) -> Path:
    return file.with_name(file.name + ".stamp")


def write_stamp(file: Path, stamp: Stamp) -> None:
    """Writes what was hashed, not what is at ``file`` now: another process may have replaced it since."""
    with suppress(OSError):  # a read-only or full cache is only slower
        write_small(stamp_of(file), msgspec.json.encode(stamp))


def touch(file: Path) -> None:
    """Marks ``file`` as used now."""
    with suppress(OSError):  # a read-only cache, or another user's
        os.utime(stamp_of(file))


def last_used(file: Path) -> float:
    """Returns when ``file`` was last fetched or loaded, in seconds since the epoch."""
    try:
        return stamp_of(file).stat().st_mtime
    except OSError:
        return file.stat().st_mtime


def write_small(file: Path, content: bytes) -> None:
    """Replaces one of the cache's own small files atomically."""
    storage.make_folder(file.parent)
    for left in file.parent.glob(f"{file.name}.*{UNFINISHED}"):
        if is_abandoned(left):
            with suppress(OSError):  # another user's
                left.unlink()
    beside = file.with_name(f"{file.name}.{os.urandom(4).hex()}{UNFINISHED}")
    try:
        with beside.open("xb") as opened:
            storage.share(opened.fileno(), file.parent)
            opened.write(content)
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def _is_recent(time_ns: int) -> bool:
    return 0 <= time.time_ns() - time_ns < _CLOCK_TICK * 1e9


def is_abandoned(file: Path) -> bool:
    """Returns whether a temporary file was left by a killed process, judged by its age."""
    try:
        return time.time() - file.lstat().st_mtime > _ABANDONED
    except FileNotFoundError:
        return False


def read_small(file: Path) -> bytes:
    """Returns the contents of one of the cache's own small files."""
    with storage.open_regular(file) as opened:
        return opened.read(_LARGEST_SMALL)


# ---- into place, and aside ------------------------------------------------------------------------


def put(arrived: Path, file: Path, hashed: Stamp) -> Path:
    """Moves the verified file ``hashed`` to ``file`` and stamps it; a right one that is there already stays.

    Raises FileNotFoundError if another process removed it in the meantime.
    """
    storage.make_folder(file.parent)
    with storage.open_regular(arrived) as opened:
        storage.share(opened.fileno(), file.parent)
    while not _place(arrived, file):
        if is_right(file, hashed.sha256):
            arrived.unlink(missing_ok=True)
            return file
    storage.sync_folder(file.parent)  # the move itself must survive a power cut
    stamp = stamp_for(hashed.sha256, file.stat())
    if (stamp.inode, stamp.size, stamp.mtime_ns) == (hashed.inode, hashed.size, hashed.mtime_ns):
        if _is_recent(stamp.ctime_ns):
            time.sleep(_CLOCK_TICK)
        if stamp == stamp_for(hashed.sha256, file.stat()):
            write_stamp(file, stamp)
    elif sha256_of(file) != hashed.sha256:  # another process has put something else there at this moment
        raise FileNotFoundError(errno.ENOENT, "replaced by another process", str(file))
    return file


def _place(arrived: Path, file: Path) -> bool:
    """Moves ``arrived`` to ``file``; False if there is one, which stays, also if two processes move at once."""
    try:
        os.link(arrived, file)
    except FileNotFoundError:
        raise
    except (OSError, NotImplementedError):  # it exists, or the file system has no hard links
        if os.path.lexists(file):
            return False
        arrived.rename(file)
    else:
        arrived.unlink(missing_ok=True)
    return True


def is_right(file: Path, sha256: str) -> bool:
    """Returns whether ``file`` has this sha256; if not, it is moved out of the way."""
    try:
        if (got := sha256_of(file)) == sha256:
            return True
    except PermissionError as error:
        raise _unreadable(file, error) from error
    except OSError:
        if file.is_file():
            raise
        file.unlink(missing_ok=True)  # a dangling link or a pipe, which nobody can have loaded
        return False
    return quarantine(file, sha256, got) is None


def quarantine(file: Path, expected: str, got: str) -> Path | None:
    """Moves ``file`` to quarantine under a name with both hashes; raises IntegrityError if that is not permitted.

    Returns its new path, or None if another process has just repaired ``file``, which stays then.
    """
    aside = root() / "quarantine" / f"expected-{expected or 'unknown'}-got-{got}"
    try:
        storage.make_folder(aside.parent)
        file.replace(aside)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise IntegrityError(
            f"{file} has sha256 {got}, expected {expected}, and cannot be moved to {aside.parent}: {error.strerror}.",
            hint="Ask the owner of the cache to run zoo cache verify, or set ZOO_CACHE to a folder that you own.",
        ) from None
    if storage.sha256_of(aside) == expected:
        _place(aside, file)
        aside.unlink(missing_ok=True)
        return None
    with suppress(OSError):
        stamp_of(file).unlink()
    return aside


# ---- is it here ------------------------------------------------------------------------------------


def find(weights: Weights) -> Path | None:
    """Returns the verified file of ``weights`` in the cache, or None; an unpinned entry means no file.

    Reads the file only if its stat has changed since it was hashed.
    """
    try:
        file, expected = place_of(weights)
        return file if sha256_of(file) == expected else None
    except (OSError, HubError):
        return None


def verify(weights: Weights, *, deep: bool = False) -> None:
    """Raises IntegrityError if the cached file has another sha256, HubError if there is none.

    ``deep`` reads the whole file, and so also finds damage that did not change its size and times.
    """
    file, expected = place_of(weights)
    try:
        got = sha256_of(file, deep=deep)
    except FileNotFoundError:
        raise _not_fetched(weights) from None
    except OSError as error:
        raise _unreadable(file, error) from error
    if got != expected:
        raise IntegrityError(
            f"{weights.name} is damaged in the cache: {file} has sha256 {got}, expected {expected}.",
            hint=f"zoo fetch {weights.name} moves it to quarantine and fetches it again.",
        )


def _unreadable(file: Path, error: OSError) -> HubError:
    return HubError(
        f"{file} cannot be read: {error.strerror or error}.",
        hint="If it is another user's, ask for the permission to read it, or set ZOO_CACHE to a folder that you own.",
    )


def place_of(weights: Weights) -> tuple[Path, str]:
    """Returns the path of ``weights`` in the cache, and the expected sha256."""
    check_path(weights)
    if not weights.sha256:
        raise _not_fetched(weights)
    return file_of(weights, weights.sha256), weights.sha256


def check_path(weights: Weights) -> None:
    """Raises HubError for invalid file names, which entries that are not from a manifest may have."""
    try:
        (weights.hub + weights.path).encode()
    except UnicodeEncodeError:
        raise HubError(f"{weights.name}: {weights.path!a} at {weights.hub!a} is not a valid file name.") from None


def _not_fetched(weights: Weights) -> HubError:
    return HubError(f"{weights.name} is not in the cache.", hint=f"zoo fetch {weights.name}")


# ---- work in the cache: locks, space, errors --------------------------------------------------------


@contextmanager
def lock(key: str) -> Iterator[None]:
    """Holds the lock of a file of the cache: :func:`zoo.system.storage.lock`."""
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
