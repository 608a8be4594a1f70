"""The tensors of a checkpoint of another lineage, whatever its format; nothing in it is run."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from zoo.convert import torch_file
from zoo.errors import FileFormatError, WeightsError
from zoo.loading import safetensors_file


class Checkpoint(msgspec.Struct):
    """``about`` is what the file says of itself; ``dropped`` names what in it is no tensor of a network.

    ``unwrapped`` says within what the tensors lay, and what else was there.
    """

    tensors: dict[str, Tensor]
    about: dict[str, Any] = {}
    dropped: list[str] = []
    unwrapped: list[str] = []


_PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DataParallel and AveragedModel, torch.compile and Lightning put before every key."""


def prefix_of(keys: Iterable[str]) -> str:
    """What wrappers have put before all of ``keys``."""
    found, keys = "", list(keys)
    while prefix := next((known for known in _PREFIXES if keys and all(key.startswith(known) for key in keys)), ""):
        found, keys = found + prefix, [key.removeprefix(prefix) for key in keys]
    return found


def read(file: Path, suffix: str = "", *, state: str = "") -> Checkpoint:
    """The checkpoint ``file``, by its ``suffix`` unless that is given: safetensors, Keras's ``.h5``, ONNX, torch's.

    ``state`` names the part of torch's checkpoint that holds the weights.

    Raises :class:`FileFormatError` for what is none of these, damaged or hostile.
    """
    suffix = (suffix or file.suffix).lower()
    if not file.is_file():
        raise WeightsError(f"{file}: no such file.")
    if suffix == ".safetensors":
        return Checkpoint(safetensors_file.read(file), safetensors_file.metadata(file))
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
    tensors, unwrapped, dropped = torch_file.read(file, state)
    return Checkpoint(tensors, dropped=dropped, unwrapped=unwrapped)
