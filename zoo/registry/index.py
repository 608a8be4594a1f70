"""The index: the installed distributions and the rows of their plugins, in one file of the cache.

It only saves work: every plugin names the state of the files that it was made from, and is used only if they are
unchanged. A file that is missing, damaged, made by another Zoo or written by another user is an empty index.
"""

import os
import stat
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from zoo.errors import StorageError
from zoo.registry.plugin_row import Distribution, Entry, Key, Rows, Stamp
from zoo.spec import API
from zoo.system import storage

_MAGIC = b"zoo index 2\n"
_START = len(_MAGIC) + 8


class Indexed(NamedTuple):
    """A plugin's rows, and what ``SearchPath.state_of`` returned for each of its modules when they were made."""

    rows: Rows
    files: dict[str, bytes]


class Index(NamedTuple):
    """Distributions by their folders, and plugins by their entry points."""

    distributions: Mapping[str, Distribution]
    plugins: Mapping[Key, Indexed]


class _Record(msgspec.Struct, frozen=True, array_like=True):
    """A plugin in the file; ``ends`` are those of its rows, counted from the end of the head."""

    folder: str
    name: str
    target: str
    entry: Entry
    files: dict[str, bytes]
    start: int
    ends: list[int]


class _Head(msgspec.Struct, frozen=True, array_like=True):
    maker: str
    size: int
    distributions: list[Distribution]
    records: list[_Record]


class _Slices(Sequence[bytes]):
    """The rows of a record, cut out of the file when they are asked for."""

    def __init__(self, data: memoryview, start: int, ends: list[int]) -> None:
        self._data, self._start, self._ends = data, start, ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, place: int) -> bytes:  # type: ignore[override]  # nobody asks for a slice of slices
        start = self._ends[place - 1] if place else self._start
        return self._data[start : self._ends[place]].tobytes()


def place() -> Path:
    """Returns the file of this user, environment and Python."""
    whose = f"{_user()} {sys.prefix} {sys.implementation.cache_tag}"
    return storage.cache_folder() / "index" / f"{zlib.crc32(os.fsencode(whose)):08x}"


def read() -> Index:
    """Returns the index of the file, an empty one if there is none that can be used."""
    try:
        with storage.open_regular(place(), follow=False) as file:
            if not _is_own(file.fileno()):
                return Index({}, {})
            data = memoryview(file.read())  # not mapped: others replace it, also on file systems of networks
        length = int.from_bytes(data[len(_MAGIC) : _START], "little")
        head = _decoder.decode(data[_START : _START + length]) if data[: len(_MAGIC)] == _MAGIC else None
    except (OSError, ValueError):  # msgspec's errors are ValueErrors
        return Index({}, {})
    if head is None or head.maker != _MAKER or _START + length + head.size != len(data):
        return Index({}, {})
    body = data[_START + length :]
    return Index(
        {distribution.folder: distribution for distribution in head.distributions},
        {
            Key(record.folder, record.name, record.target): Indexed(
                Rows(record.entry, _Slices(body, record.start, record.ends)), record.files
            )
            for record in head.records
        },
    )


def write(index: Index) -> None:
    """Replaces the file, if the cache can be written to."""
    records, size = [], 0
    for key, (rows, files) in index.plugins.items():
        start, ends = size, [size := size + len(row) for row in rows.encoded]
        records.append(_Record(*key, rows.entry, files, start, ends))
    head = msgspec.msgpack.encode(_Head(_MAKER, size, [*index.distributions.values()], records))
    file = place()
    with suppress(OSError, StorageError):
        storage.make_folder(file.parent)
        with storage.beside(file, 0o600) as stream:  # what it names is imported: nobody else may write it
            stream.write(_MAGIC + len(head).to_bytes(8, "little") + head)
            for indexed in index.plugins.values():
                stream.writelines(indexed.rows.encoded)


def stamp_of(file: str) -> Stamp | None:
    """Returns the stamp of a file; None if it does not exist."""
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _is_own(descriptor: int) -> bool:
    """Returns whether nobody but this user can have written the file: hooks in it are imported and called."""
    if os.name != "posix":
        return True
    status = os.fstat(descriptor)
    return status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o022


def _user() -> int:
    return os.geteuid() if os.name == "posix" else 0


def _maker() -> str:
    """Returns the code that made an index: its values, and how they are read."""
    root = Path(__file__).parents[1]
    files = [root / "names.py", *(file for part in ("spec", "manifest", "registry") for file in _code_of(root / part))]
    stamps = [stamp_of(str(file)) for file in files]
    return f"{API} {sys.version} {msgspec.__version__} {stamps}"


def _code_of(folder: Path) -> Iterator[Path]:
    with suppress(OSError):  # Zoo may lie in an archive
        yield from sorted(folder.glob("*.py"))


_decoder = msgspec.msgpack.Decoder(_Head)
_MAKER = _maker()  # at import, when that code is what is loaded
