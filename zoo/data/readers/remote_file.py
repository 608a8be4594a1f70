"""Files of a folder or an address, read from the start and resumed if a connection breaks."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import DataError, HubError
from zoo.hub import address, offline_switch
from zoo.hub.download import PassingError, Source, Stream
from zoo.manifest import Weights

_ATTEMPTS = 5
_MAX_BYTES = 1 << 28
"""Bytes of the longest description of a set."""
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
"""First bytes of gzip, bzip2 and xz; what they unfold to has no bound."""


@dataclass(frozen=True)
class Place:
    """A folder or an address, through the sources that weights come from too."""

    source: Source

    @property
    def name(self) -> str:
        """The name in messages, without secrets."""
        return self.source.name

    def check(self, file: str) -> None:
        """Raises :class:`DataError` if ``file`` would lie outside the place."""
        try:
            Weights(file=file, pinned=False)
        except ValueError as error:
            raise DataError(f"{self.name}: invalid shard name {file!r}: {error}.") from None

    def read(self, file: str) -> bytes:
        """Reads a small file; raises :class:`DataError` if it cannot be read."""
        chunks, size = [], 0
        with self.open(file) as stream:
            while chunk := stream.read(1 << 20):
                chunks.append(chunk)
                size += len(chunk)
                if size > _MAX_BYTES:
                    raise DataError(f"{self.name}/{file}: more than {_MAX_BYTES:,} bytes.")
        return b"".join(chunks)

    @contextmanager
    def open(self, file: str) -> Iterator["SteadyFile"]:
        """Opens a file; :class:`DataError` says why it cannot be opened or read."""
        self.check(file)
        if not self.source.is_local and (switch := offline_switch()):
            raise DataError(f"{self.name}/{file}: network access is disabled ({switch}={os.environ[switch]}).")
        steady = SteadyFile(self, file)
        try:
            yield steady
        finally:
            steady.close()


class SteadyFile:
    """``read(n)`` gives 1 to n bytes, or none at the end, and resumes interrupted connections.

    ``failure`` is what made it give up, for callers through whose hands the error passes.
    """

    def __init__(self, place: Place, file: str) -> None:
        self.failure: DataError | None = None
        self._where = f"{place.name}/{file}"
        self._source = place.source
        self._entry = Weights(file=file, pinned=False)
        self._position = 0
        self._stream: Stream | None = None
        self._opened = ExitStack()

    def read(self, count: int) -> bytes:
        for attempt in range(_ATTEMPTS):
            try:
                return self._read(count)
            except PassingError as error:
                self.close()
                reason = str(error)
                time.sleep(0.1 * 2**attempt)
            except HubError as error:
                reason = error.message
                break
        self.failure = DataError(f"{self._where}: {reason}")
        raise self.failure

    def close(self) -> None:
        self._opened.close()
        self._stream = None

    def _read(self, count: int) -> bytes:
        stream = self._stream or self._open()
        chunk = stream.read(count)
        if not chunk and self._position < stream.size:
            raise PassingError(f"the connection was lost after {self._position:,} of {stream.size:,} bytes")
        if self._position == 0 and chunk.startswith(_COMPRESSED):
            self.failure = DataError(
                f"{self._where}: is compressed; shards must be uncompressed.",
                hint="Decompress it: gunzip, unxz, bunzip2.",
            )
            raise self.failure
        self._position += len(chunk)
        return chunk

    def _open(self) -> Stream:
        """Opens the stream at the position that was reached, reading up to it from a source without ranges."""
        stream = self._opened.enter_context(self._source.open(self._entry, self._position))
        behind = self._position - stream.start
        while behind > 0:
            chunk = stream.read(min(behind, 1 << 20))
            if not chunk:
                raise HubError(f"is shorter than the {self._position:,} bytes that it had before")
            behind -= len(chunk)
        self._stream = stream
        return stream


def place_at(where: str | Path) -> Place:
    """Returns the place that ``where`` names: a folder, or an address with ``://``."""
    try:
        return Place(address.parse(str(where)))
    except HubError as error:
        raise DataError(f"{where}: {error.message}") from None
