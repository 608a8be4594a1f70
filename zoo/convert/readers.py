"""The tensors of a checkpoint of another lineage, whatever its format; nothing in it is run."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from zoo import tensorfile
from zoo.errors import FileFormatError, WeightsError


class Checkpoint(msgspec.Struct):
    """``about`` is what the file says of itself; ``dropped`` names what in it is no tensor of a network."""

    tensors: dict[str, Tensor]
    about: dict[str, Any] = {}
    dropped: list[str] = []


def read(file: Path, suffix: str = "") -> Checkpoint:
    """The checkpoint ``file``, by its ``suffix`` unless that is given: safetensors, Keras's ``.h5``, ONNX, torch's.

    Raises :class:`FileFormatError` for what is none of these, damaged or hostile.
    """
    suffix = (suffix or file.suffix).lower()
    if not file.is_file():
        raise WeightsError(f"{file}: no such file.")
    if suffix == ".safetensors":
        return Checkpoint(tensorfile.read(file), tensorfile.metadata(file))
    if suffix in (".h5", ".hdf5"):
        from zoo.convert import keras

        return Checkpoint(keras.read(file))
    if suffix == ".onnx":
        from zoo.convert import onnx

        return Checkpoint(*onnx.read(file))
    if suffix == ".keras":
        raise FileFormatError(
            f"{file}: a .keras file holds code beside weights.",
            hint="In Keras, model.save_weights('NAME.weights.h5') writes the weights alone.",
        )
    return Checkpoint(_read_torch(file))


def _read_torch(file: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # which it then reads, or refuses
            content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # on hostile bytes torch's unpickler raises whatever its stack runs into
        reason = str(error).partition("\n")[0]
        raise FileFormatError(f"{file}: not a checkpoint that can be read without running code: {reason}") from None
    for wrapper in ("state_dict", "model", "net"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise FileFormatError(f"{file}: expected a mapping of names to tensors (a state dict), whole or as state_dict.")
    return dict(content)
