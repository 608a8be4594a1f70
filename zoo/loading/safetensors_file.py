"""Reads and writes safetensors files: with limits, and atomically.

Nothing here unpickles: a file that is not safetensors is refused by its first bytes.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from zoo.errors import FileFormatError, WeightsError
from zoo.system import storage

MAX_HEADER = 25_000_000
"""Bytes of header that are read at most: 100 times that of the largest network here."""

_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

METADATA_KEY = "zoo"
"""The one metadata entry that Zoo writes: several would come in an order that changes the file."""


def read(file: Path) -> dict[str, Tensor]:
    """Returns the tensors of a safetensors file, memory-mapped copy-on-write: changing them does not change the file.

    Raises :class:`FileFormatError` for anything but a complete, valid safetensors file.
    """
    _read_header(file)
    try:
        return safetensors.torch.load_file(file)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise FileFormatError(f"{file}: not a usable safetensors file: {error}") from None


def metadata(file: Path) -> dict[str, Any]:
    """Returns the metadata that :func:`write` stored in the file, {} for files of another origin."""
    text = _read_header(file).get("__metadata__", {})
    text = text.get(METADATA_KEY, "{}") if isinstance(text, dict) else "{}"
    try:
        about = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{file}: the header's {METADATA_KEY!r} metadata is not JSON: {error}") from None
    return about if isinstance(about, dict) else {}


def write(tensors: Mapping[str, Tensor], file: Path, about: Mapping[str, Any]) -> str:
    """Writes ``tensors`` and ``about`` (JSON-able) to ``file`` atomically; returns the sha256.

    The same input gives the same bytes: ``about`` is one sorted JSON string. Raises :class:`StorageError`.
    """
    whole: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        whole[name] = tensor.clone() if place in places else tensor  # safetensors refuses tied tensors
        places.add(place)
    data = safetensors.torch.save(whole, {METADATA_KEY: json.dumps(about, sort_keys=True)})
    storage.replace(file, data)
    return hashlib.sha256(data).hexdigest()


def _read_header(file: Path) -> dict[str, Any]:
    try:
        with storage.open_regular(file) as stream:
            start = stream.read(8)
            size = os.fstat(stream.fileno()).st_size
            length = int.from_bytes(start, "little")
            is_whole = len(start) == 8 and 2 <= length <= min(size - 8, MAX_HEADER)
            # A header of 640 bytes begins as a pickle of protocol 2 does; no pickle reads as a length within bounds.
            if not is_whole and start.startswith(_PICKLES):
                raise FileFormatError(
                    f"{file}: this is a pickle. Pickles can run code, so Zoo does not load them.",
                    hint=f"zoo convert {file} MODEL -o OUT.safetensors converts its tensors.",
                )
            if not is_whole:
                raise FileFormatError(
                    f"{file}: incomplete safetensors file: its header states {length:,} bytes, the file has {size:,}."
                )
            header = json.loads(stream.read(length))
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{file}: the safetensors header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise FileFormatError(f"{file}: the safetensors header is not an object.")
    return header
