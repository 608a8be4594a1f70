"""The initialisers of an ONNX file, under their own names; of its graph only which of them share their values."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import FileFormatError, MissingExtraError, WeightsError


def read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any], list[str]]:
    """The tensors, nothing, and the names of whole numbers that are shapes rather than weights.

    Raises :class:`FileFormatError`, :class:`MissingExtraError`.
    """
    try:
        import onnx
        from onnx import numpy_helper
        from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data
    except ImportError:
        raise MissingExtraError.of(f"Reading {file.name}", "onnx", "zoo-vision[convert]") from None
    try:
        graph = onnx.load(str(file), load_external_data=False).graph
        tensors: dict[str, Tensor] = {}
        dropped = []
        for initialiser in graph.initializer:
            if uses_external_data(initialiser):
                _check_beside(file, initialiser)
                load_external_data_for_tensor(initialiser, str(file.parent))
            tensor = torch.from_numpy(numpy_helper.to_array(initialiser).copy())
            if tensor.is_floating_point() or initialiser.name.endswith("num_batches_tracked"):
                tensors[initialiser.name] = tensor
            else:
                dropped.append(initialiser.name)
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # protobuf and onnx raise many kinds at damaged files
        raise FileFormatError(f"{file}: not a usable ONNX file: {type(error).__name__}: {error}") from None
    if not tensors:
        raise FileFormatError(f"{file}: its graph has no initialisers, so it contains no weights.")
    if folded := [name for name in tensors if name.startswith("onnx::Conv")]:
        raise FileFormatError(
            f"{file}: {len(folded)} convolution tensors have no names ({folded[0]}, ...): "
            "it was exported with folded normalisation layers.",
            hint="torch.onnx.export(..., training=TrainingMode.PRESERVE, do_constant_folding=False) exports them.",
        )
    for node in graph.node:  # torch's exporter stores equal tensors once, and the others as copies of that one
        if node.op_type == "Identity" and node.input[0] in tensors:
            tensors[node.output[0]] = tensors[node.input[0]]
    return tensors, {}, dropped


def _check_beside(file: Path, initialiser: Any) -> None:
    """Raises for external data that is not in a file beside the ONNX file."""
    places = [entry.value for entry in initialiser.external_data if entry.key == "location"] or [""]
    for place in places:
        there = file.parent / place
        if Path(place).name == place and not there.is_symlink() and there.is_file():
            continue
        raise FileFormatError(
            f"{file}: {initialiser.name} is stored in {place!r}, which is not a file beside it.",
            hint="Put the .onnx file and its data into one folder.",
        )
