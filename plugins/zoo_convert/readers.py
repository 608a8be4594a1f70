"""Reads the tensors of a checkpoint in any supported format, without running code."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from zoo.errors import FileFormatError, WeightsError
from zoo.loading import safetensors_file
from zoo_convert import torch_file


class Checkpoint(msgspec.Struct):
    """``about`` is the file's own metadata; ``dropped`` names its tensors that are not part of a network.

    ``unwrapped`` says within what the tensors lay, and what else was there.
    """

    tensors: dict[str, Tensor]
    about: dict[str, Any] = {}
    dropped: list[str] = []
    unwrapped: list[str] = []
    graph: Any = None
    """Of an ONNX file, the ``onnx.ModelProto``."""


_PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DataParallel and AveragedModel, torch.compile and Lightning put before every key."""


def prefix_of(keys: Iterable[str]) -> str:
    """The prefix that wrappers have added to all of ``keys``."""
    found, keys = "", list(keys)
    while prefix := next((known for known in _PREFIXES if keys and all(key.startswith(known) for key in keys)), ""):
        found, keys = found + prefix, [key.removeprefix(prefix) for key in keys]
    return found


def read(file: Path, suffix: str = "", *, state: str = "") -> Checkpoint:
    """Reads the checkpoint ``file``, by its ``suffix`` unless given: safetensors, Keras's ``.h5``, ONNX, or torch's.

    ``state`` names the part of a torch checkpoint with the weights. Raises :class:`FileFormatError` for other, damaged
    or hostile files.
    """
    suffix = (suffix or file.suffix).lower()
    if not file.is_file():
        raise WeightsError(f"{file}: no such file.")
    if suffix == ".safetensors":
        return Checkpoint(safetensors_file.read(file), safetensors_file.metadata(file))
    if suffix in (".h5", ".hdf5"):
        from zoo_convert import keras

        return Checkpoint(keras.read(file))
    if suffix == ".onnx":
        from zoo_convert import onnx

        tensors, dropped, graph = onnx.read(file)
        return Checkpoint(tensors, dropped=dropped, graph=graph)
    if suffix == ".keras":
        raise FileFormatError(
            f"{file}: a .keras file contains code as well as weights.",
            hint="In Keras, model.save_weights('NAME.weights.h5') saves only the weights.",
        )
    tensors, unwrapped, dropped = torch_file.read(file, state)
    return Checkpoint(tensors, dropped=dropped, unwrapped=unwrapped)
