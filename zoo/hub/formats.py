"""Whether a file is a whole one of its format, as far as its first and last bytes show.

Weights whose sha256 nobody states are pinned to what arrives: a login page or half a file must not be what their name
means from then on. Nothing here loads a file; what is whole may still not be usable.
"""

import os
import re
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import msgspec

from zoo.system import storage

_LARGEST_HEADER = 25_000_000
_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|body|\?xml|!--)", re.IGNORECASE)
_ZIP, _HDF5, _PICKLE = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", re.compile(rb"\x80[\x02-\x05]")
_NEEDED = {
    ".pth": "zip archive, nor a pickle",
    ".pt": "zip archive, nor a pickle",
    ".th": "zip archive, nor a pickle",
    ".h5": "HDF5 file",
    ".hdf5": "HDF5 file",
    ".keras": "zip archive",
    ".npz": "zip archive",
}


def fault(file: Path, name: str, *, has_end: bool = True) -> str:
    """Returns why ``file``, which its source calls ``name``, is not a whole file of its format; empty if it may be.

    ``has_end`` says whether its source states where it ends, which not all formats do. Raises OSError if the file
    cannot be read.
    """
    suffix = PurePosixPath(name).suffix.lower()
    with storage.open_regular(file) as opened:
        size = os.fstat(opened.fileno()).st_size
        start = opened.read(512)
        if _PAGE.match(start):
            return "is a web page, not a file of weights"
        if suffix == ".safetensors":
            return _of_safetensors(opened, size)
        if start.startswith(_ZIP):
            return _of_zip(opened)
        if start.startswith(_HDF5):
            return _of_hdf5(start, size)
        if suffix == ".onnx":
            return _of_protobuf(opened, size)
        is_pickle = _PICKLE.match(start) or start[257:262] == b"ustar"  # torch wrote tar archives once
        if suffix in _NEEDED and not (is_pickle and "pickle" in _NEEDED[suffix]):
            return f"is no {_NEEDED[suffix]}"
    return "" if has_end else "may be cut: neither its format nor its source says where it ends"


def _of_safetensors(opened: BinaryIO, size: int) -> str:
    opened.seek(0)
    length = int.from_bytes(opened.read(8), "little")
    if not 2 <= length <= min(size - 8, _LARGEST_HEADER):
        return f"is no whole safetensors file: a header of {length:,} bytes in {size:,}"
    try:
        tensors: dict[str, Any] = msgspec.json.decode(opened.read(length), type=dict[str, Any])
        ends = [int(about["data_offsets"][1]) for key, about in tensors.items() if key != "__metadata__"]
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        return "is no safetensors file: its header cannot be read"
    expected = 8 + length + max(ends, default=0)
    return "" if size == expected else f"is no whole safetensors file: {size:,} bytes of {expected:,}"


def _of_zip(opened: BinaryIO) -> str:
    try:
        with zipfile.ZipFile(opened):
            return ""
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        return f"is no whole zip archive: {error}"


def _of_hdf5(start: bytes, size: int) -> str:
    """Reads the end of the file in the superblock: HDF5 File Format Specification, section II.A."""
    version = start[8]
    width, place = (start[13], 24 + 4 * (version == 1)) if version < 2 else (start[9], 12)
    end = int.from_bytes(start[place + 2 * width : place + 3 * width], "little")
    return "" if end <= size else f"is no whole HDF5 file: {size:,} bytes of {end:,}"


def _of_protobuf(opened: BinaryIO, size: int) -> str:
    """Walks over the fields of a message; its end must be that of the last one."""
    place = 0
    while place < size:
        opened.seek(place)
        head = opened.read(20)
        (key, used), kind = _varint(head), head[0] & 7
        if kind == 0:
            used += _varint(head[used:])[1]
        elif kind == 2:
            length, more = _varint(head[used:])
            used += more + length
        elif kind in (1, 5):
            used += 8 if kind == 1 else 4
        else:
            used = 0
        if not (used and key >> 3):
            return "is no ONNX file"
        place += used
    return "" if place == size and size else f"is no whole ONNX file: {size:,} bytes of {place:,}"


def _varint(text: bytes) -> tuple[int, int]:
    """Returns the number at the start of ``text``, and how many bytes it has."""
    value = 0
    for count, byte in enumerate(text[:10]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, count + 1
    return value, len(text[:10])
