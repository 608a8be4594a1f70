"""Downloads into the cache: streamed, hashed, limited in size, resumed, verified.

A source only opens streams. Whatever it claims, its bytes are moved into place when their sha256
and size are those of the manifest, and quarantined otherwise.
"""

import errno
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from zoo.errors import HubError, IntegrityError
from zoo.hub import cache, formats, parts
from zoo.hub.parts import Hashes, Part
from zoo.manifest import Weights
from zoo.system import storage

Progress = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes of the whole file, 0 if that is unknown."""

LARGEST = 1 << 40
"""Bytes; no stream is read further if neither manifest nor source says how long the file is."""

_PATIENCE = 3
_ATTEMPTS = 20
_SLOWEST = 1024  # bytes a second
_PAUSE = 0.1  # seconds before the second attempt; doubled before each further one, 2 at most


class Stream(NamedTuple):
    """An open file of a source, from byte ``start`` on.

    ``read(n)`` returns 1 to n bytes, or none at the end; ``size`` is that of the whole file, 0 if unknown. ``sha256``
    and ``revision`` are those that the source reports. ``has_end`` is False if a stream that was cut ends like a whole
    one, ``is_page`` True if the source calls it a web page. ``read`` raises :class:`PassingError` or HubError, never
    OSError, which is reserved for the cache.
    """

    read: Callable[[int], bytes]
    start: int
    size: int
    sha256: str = ""
    revision: str = ""
    has_end: bool = True
    is_page: bool = False


class Source(Protocol):
    """A hub from which ``weights.path`` can be read."""

    @property
    def name(self) -> str:
        """The name that messages call it; holds no secret."""
        ...

    @property
    def is_local(self) -> bool:
        """Whether it works without a network."""
        ...

    def open(self, weights: Weights, start: int) -> AbstractContextManager[Stream]:
        """Opens the file at byte ``start``, or at 0 if it cannot; raises as ``Stream.read`` does."""
        ...


class PassingError(Exception):
    """A temporary failure of a source.

    ``cost`` is the number of retries that it uses up, ``wait`` the seconds to wait that the source asked for.
    """

    def __init__(self, reason: str, *, cost: int = 1, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.cost = cost
        self.wait = wait


class Arrival(NamedTuple):
    """A verified file that is not yet in place; ``hashed`` is its stamp."""

    path: Path
    hashed: cache.Stamp
    revision: str = ""


def time_limit() -> float:
    """Returns the seconds to wait for a source: ZOO_TIMEOUT, or 20."""
    text = os.environ.get("ZOO_TIMEOUT", "20")
    with suppress(ValueError):
        if 0 < (seconds := float(text)) < 1e6:
            return seconds
    raise HubError(f"ZOO_TIMEOUT is {text!r}; expected a positive number of seconds.")


def receive(source: Source, weights: Weights, progress: Progress | None = None) -> Arrival:
    """Downloads ``weights`` from ``source``, continuing an earlier download if there is one.

    Raises IntegrityError if the bytes are not those of the manifest, HubError if the source fails, OSError if the cache
    cannot be written.
    """
    with Part(cache.key_of(weights), _algorithm_of(weights)) as part:
        if not weights.sha256:
            part.restart()  # without a hash nothing says that the beginning is of the same file
        if weights.size and part.length > weights.size:
            part.restart()
        inherited = part.length
        try:
            last = _pull(source, weights, part, progress)
            if inherited and _complaint(weights, part, part.length, last.sha256):
                part.restart()  # perhaps the bad bytes were those that somebody else left
                last = _pull(source, weights, part, progress)
            hashed = part.finish()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                part.restart()  # do not leave the disk full
            raise
        except HubError:
            if not weights.sha256:
                part.restart()
            raise
    complaint = _complaint(weights, part, part.length, last.sha256)
    if complaint := complaint or _fault(weights, part.path, has_end=last.has_end):
        try:
            aside = cache.quarantine(part.path, weights.sha256 or weights.sha256_prefix or last.sha256, part.sha256)
        except IntegrityError:  # the quarantine is another user's
            part.path.unlink()
            raise IntegrityError(f"{complaint}; removed") from None
        raise IntegrityError(f"{complaint}; moved to {aside}" if aside else complaint)
    return Arrival(part.path, hashed, last.revision)


def adopt(file: Path, weights: Weights, claimed: str = "", revision: str = "") -> Arrival:
    """Copies a local file of another program into the cache, by a hard link if possible.

    A link costs neither time nor space, and our file remains when the other program removes its own. Both programs
    replace files and never modify them; if a file were modified nevertheless, its stat changes and it is hashed again.
    The hash is computed through the link, so the hashed file is the one that is moved into place.
    """
    from shutil import copyfileobj

    link = parts.own(cache.key_of(weights), "link")
    storage.make_folder(link.parent)
    try:
        theirs = storage.open_regular(file)
    except OSError as error:
        raise HubError(f"{file} cannot be opened: {error.strerror or error}") from None
    with theirs:
        try:
            if not storage.is_shareable(file, link.parent):
                raise PermissionError
            os.link(file.resolve(), link)  # a link to a symbolic link would lead nowhere from here
        except OSError:  # another file system, or one without links
            cache.require_space(os.fstat(theirs.fileno()).st_size, weights.name)
            with link.open("xb") as ours:
                copyfileobj(theirs, ours, cache.CHUNK)
                ours.flush()
                os.fsync(ours.fileno())
    with storage.open_regular(link) as opened:
        hashes = Hashes(_algorithm_of(weights))
        hashes.read(opened)
        hashed = cache.stamp_for(hashes.sha256, os.fstat(opened.fileno()))
    if complaint := _complaint(weights, hashes, hashed.size, claimed) or _fault(weights, link):
        link.unlink()
        raise IntegrityError(f"{complaint}, in {file}")
    return Arrival(link, hashed, revision)


def stream_of(opened: BinaryIO, start: int) -> Stream:
    """Returns the stream of a seekable local file."""
    size = opened.seek(0, os.SEEK_END)
    opened.seek(min(start, size))

    def read(count: int) -> bytes:
        try:
            return opened.read(count)
        except OSError as error:
            raise HubError(f"cannot be read: {error.strerror or error}") from None

    return Stream(read, min(start, size), size)


def too_long(wait: float, limit: float) -> str:
    """Returns what to say about a source that asks to wait longer than the time limit."""
    then = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() + wait))
    return (
        f"asks to wait {wait:,.0f} s, longer than the timeout of {limit:g} s; try again after {then}, or set "
        f"ZOO_TIMEOUT={wait + 1:.0f}"
    )


def _pull(source: Source, weights: Weights, part: Part, progress: Progress | None) -> Stream:
    """Reads ``source`` to its end into ``part``, with retries."""
    if weights.sha256 and part.sha256 == weights.sha256:  # a process died after the last byte
        return Stream(lambda _: b"", part.length, part.length)
    patience, longest = _PATIENCE, part.length
    for attempt in range(_ATTEMPTS):
        try:
            with source.open(weights, part.length) as stream:
                _copy(stream, weights, part, progress)
            return stream
        except PassingError as error:
            if weights.sha256 and part.length >= longest + cache.CHUNK:  # it gets on
                patience, longest = _PATIENCE, part.length
            patience -= error.cost
            if error.wait > time_limit():
                raise HubError(f"{error}, and {too_long(error.wait, time_limit())}") from None
            if patience <= 0 or attempt == _ATTEMPTS - 1:
                raise HubError(str(error)) from None
            wait = max(error.wait, min(_PAUSE * 2 ** (_PATIENCE - patience), 2.0))
        if not weights.sha256:
            part.restart()
        time.sleep(wait)
    raise AssertionError("unreachable")


def _copy(stream: Stream, weights: Weights, part: Part, progress: Progress | None) -> None:
    """Appends ``stream`` to ``part``, with a limit on its size and a minimum speed."""
    if stream.start != part.length:
        part.restart()
        if stream.start:
            raise HubError(f"returned a partial response, from byte {stream.start:,} on, to a full request")
    if stream.is_page and not weights.sha256:
        raise HubError("sent a web page (text/html), not a file of weights")
    if weights.sha256 and stream.sha256 not in ("", weights.sha256):
        raise IntegrityError(f"has sha256 {stream.sha256}, expected {weights.sha256}; nothing was read")
    if weights.size and stream.size and stream.size != weights.size:
        raise IntegrityError(f"has {stream.size:,} bytes, expected {weights.size:,}; nothing was read")
    size = weights.size or stream.size
    cache.require_space(size - part.length, weights.name)
    limit = time_limit()
    since, length_then = time.monotonic(), part.length
    if progress:
        progress(part.length, size)
    while chunk := stream.read(cache.CHUNK):
        if part.length + len(chunk) > (size or LARGEST):
            part.restart()
            raise IntegrityError(f"sent more than the {size or LARGEST:,} bytes expected; all were discarded")
        part.write(chunk)
        if progress:
            progress(part.length, size)
        if (now := time.monotonic()) - since > limit:
            if part.length - length_then < _SLOWEST * (now - since):
                raise HubError(f"sent {part.length - length_then:,} bytes in {now - since:.0f} s: too slow")
            since, length_then = now, part.length
    if part.length < size:
        raise PassingError(f"the connection was lost after {part.length:,} of {size:,} bytes")


def _fault(weights: Weights, file: Path, *, has_end: bool = True) -> str:
    """Returns why ``file`` must not be pinned as ``weights``; empty if it may, or if their bytes are known."""
    if weights.determines_bytes:
        return ""
    return formats.fault(file, weights.file, has_end=bool(has_end or weights.size or weights.sha256_prefix))


def _algorithm_of(weights: Weights) -> str:
    return weights.digest.partition(":")[0]


def _complaint(weights: Weights, got: Hashes | Part, size: int, claimed: str) -> str:
    """Returns the difference between these hashes and this size and the expected ones, or an empty string."""
    if weights.sha256 and got.sha256 != weights.sha256:
        return f"has sha256 {got.sha256}, expected {weights.sha256}"
    if got.digest != weights.digest:
        return f"has {got.digest}, expected {weights.digest} (sha256 {got.sha256})"
    if weights.size and size != weights.size:
        return f"has {size:,} bytes, expected {weights.size:,} (sha256 {got.sha256})"
    if not got.sha256.startswith(weights.sha256_prefix):
        return f"has sha256 {got.sha256}, expected one that begins with {weights.sha256_prefix}"
    if claimed and got.sha256 != claimed:
        return f"has sha256 {got.sha256}, expected {claimed} according to the source"
    return ""
