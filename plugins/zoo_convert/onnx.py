"""ONNX files: their initialisers under their own names, and their graph."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

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


class Use(NamedTuple):
    """A tensor of a file with its name; in an ONNX graph, ``taken`` names the value that its layer takes."""

    name: str
    tensor: Tensor
    taken: str = ""


def uses(model: Any, tensors: Mapping[str, Tensor]) -> list[Use]:
    """Returns ``tensors`` in the order in which the graph of ``model`` uses them, linear layers' weights as O I.

    Single numbers, which are constants of the graph, are left out.
    """
    listed: dict[str, Use] = {}
    for node in model.graph.node:
        if node.op_type == "Identity":
            continue
        is_turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        for name in node.input:
            tensor = tensors.get(name)
            if tensor is None or tensor.ndim == 0 or name in listed:
                continue
            if tensor.ndim == 2 and node.op_type in ("MatMul", "Gemm") and not is_turned:
                tensor = tensor.T.contiguous()
            listed[name] = Use(name, tensor, node.input[0])
    return [*listed.values()]


def fold_biases(model: Any, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Returns ``tensors`` with the bias of each convolution subtracted from the mean of a normalization behind it.

    (x + bias - mean) is (x - (mean - bias)). Also returns what became a part of what.
    """
    makers = {output: node for node in model.graph.node for output in node.output}
    changed, lines = dict(tensors), []
    for node in model.graph.node:
        before = makers.get(node.input[0]) if node.op_type == "BatchNormalization" and len(node.input) > 3 else None
        if before is None or before.op_type != "Conv" or len(before.input) < 3:
            continue
        bias, mean = before.input[2], node.input[3]
        if {bias, mean} <= changed.keys() and changed[bias].shape == changed[mean].shape:
            changed[mean] = changed[mean] - changed.pop(bias)
            lines.append(f"{bias} into {mean}")
    return changed, lines


class Output(NamedTuple):
    """The name of the file's logits; if ``is_softmax``, the file computes probabilities from them."""

    name: str
    is_softmax: bool


def output_of(model: Any) -> Output:
    """Returns the first output, without a softmax at the end."""
    name = first = model.graph.output[0].name if model.graph.output else ""
    for node in reversed(model.graph.node):  # they are in the order in which they run
        if name not in node.output or not node.input:
            continue
        name = node.input[0]
        if node.op_type in ("Softmax", "LogSoftmax"):
            return Output(name, True)
        if node.op_type not in ("Identity", "Dropout", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze"):
            break
    return Output(first, False)


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
