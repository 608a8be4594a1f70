"""ONNX files: their initialisers under their own names, and their graph."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import FileFormatError, MissingExtraError, WeightsError


def read(file: Path) -> tuple[dict[str, Tensor], list[str], Any]:
    """The tensors, the names of whole numbers that are shapes rather than weights, and the ``onnx.ModelProto``.

    Raises :class:`FileFormatError`, :class:`MissingExtraError`.
    """
    try:
        import onnx
        from onnx import numpy_helper
        from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data
    except ImportError:
        raise MissingExtraError.of(f"Reading {file.name}", "onnx", "zoo-vision[convert]") from None
    try:
        model = onnx.load(str(file), load_external_data=False)
        tensors: dict[str, Tensor] = {}
        dropped = []
        for initialiser in model.graph.initializer:
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
    for node in model.graph.node:  # torch's exporter stores equal tensors once, and the others as copies of that one
        if node.op_type == "Identity" and node.input[0] in tensors:
            tensors[node.output[0]] = tensors[node.input[0]]
    return tensors, dropped, model


def input_size(model: Any) -> tuple[int, int, int] | None:
    """Channels, height and width of the images that the graph takes, if it states them."""
    shape = _input_shape(model)
    sizes = shape[1:] if not is_channels_last(model) else [shape[3], *shape[1:3]]
    return (sizes[0], sizes[1], sizes[2]) if len(shape) == 4 and all(sizes) else None


def is_channels_last(model: Any) -> bool:
    """Whether the graph takes images B H W C, as those converted from TensorFlow do."""
    shape = _input_shape(model)
    return len(shape) == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3)


def _input_shape(model: Any) -> list[int]:
    """The sizes of the first input, 0 for one that the graph leaves open."""
    held = {initialiser.name for initialiser in model.graph.initializer}  # old files list these as inputs too
    images = next((value for value in model.graph.input if value.name not in held), None)
    return [size.dim_value for size in images.type.tensor_type.shape.dim] if images is not None else []


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
