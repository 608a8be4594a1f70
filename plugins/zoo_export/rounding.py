"""Corrects biases for what int8 weights shift: the mean of each output channel stays that of float32.

Rounded weights are off by a little, and inputs behind a ReLU have a mean above zero: together that shifts whole
channels, most in depthwise convolutions, whose few weights do not average out (Nagel et al. 2019, Data-Free
Quantization Through Weight Equalization and Bias Correction, https://arxiv.org/abs/1906.04721, section 4.2).
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

Array = npt.NDArray[np.floating[Any]]

_LARGEST = 127
"""onnxruntime's int8 weights are symmetric: a channel's largest stands for 127."""

_BATCH = 10


def correct_biases(model: Any, inputs: Tensor, kept: Collection[str]) -> None:
    """Changes the biases of an ONNX model before its weights are rounded to int8, by output channel.

    Args:
        model: An ``onnx.ModelProto`` with one input, changed in place. Its Conv and Gemm nodes with constant weights
            are corrected.
        inputs: Calibration images as the model takes them, B C H W: over them, the mean of each channel is taken.
        kept: Names of nodes whose weights stay float32.
    """
    from onnx import numpy_helper

    graph = model.graph
    constants = {entry.name: entry for entry in graph.initializer}
    nodes = [
        node
        for node in graph.node
        if node.op_type in ("Conv", "Gemm") and node.name not in kept and node.input[1] in constants
    ]
    if not nodes:
        return
    means = _channel_means(model, {node.input[0] for node in nodes}, inputs)
    replaced = set()
    for number, node in enumerate(nodes):
        weights = numpy_helper.to_array(constants[node.input[1]])
        attributes = {entry.name: entry.i for entry in node.attribute}
        if node.op_type == "Gemm" and not attributes.get("transB"):
            weights = weights.T
        change = shift(weights, means[node.input[0]], attributes.get("group") or 1)
        has_bias = len(node.input) > 2 and node.input[2]
        if has_bias and node.input[2] not in constants:
            continue
        bias = numpy_helper.to_array(constants[node.input[2]]) if has_bias else np.zeros(len(weights), np.float32)
        name = f"{node.input[1]}_bias_{number}"  # its own: nodes may share one, with inputs of other means
        graph.initializer.append(numpy_helper.from_array((bias - change).astype(np.float32), name))
        replaced.update(node.input[2:])
        del node.input[2:]
        node.input.append(name)
    used = {name for node in graph.node for name in node.input}
    for name in replaced & constants.keys() - used:
        graph.initializer.remove(constants[name])


def shift(weights: Array, means: Array, groups: int) -> Array:
    """Returns by how much rounding ``weights``, O I ..., shifts the mean of each output channel, O.

    ``means`` are those of the input's channels, I times ``groups``.
    """
    flat = weights.reshape(len(weights), weights.shape[1], -1)
    scale = np.abs(flat).max(axis=(1, 2), keepdims=True) / _LARGEST
    scale[scale == 0] = 1
    off = (np.round(flat / scale) * scale - flat).sum(axis=2)
    of_group = means.reshape(groups, -1).repeat(len(weights) // groups, axis=0)
    total: Array = (off * of_group).sum(axis=1)
    return total


def _channel_means(model: Any, names: Collection[str], inputs: Tensor) -> dict[str, Array]:
    """Returns the mean of each channel of the values ``names``, B C ..., over the images ``inputs``."""
    import onnx
    import onnxruntime

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    graph, outputs = copied.graph, {}
    flat = {node.input[0] for node in graph.node if node.op_type == "Gemm"}
    for number, name in enumerate(sorted(names)):
        outputs[name] = f"zoo_mean_{number}"
        kind = "Identity" if name in flat else "GlobalAveragePool"
        graph.node.append(onnx.helper.make_node(kind, [name], [outputs[name]]))
        graph.output.append(onnx.helper.make_empty_tensor_value_info(outputs[name]))
    session = onnxruntime.InferenceSession(copied.SerializeToString())
    [taken] = session.get_inputs()
    totals: dict[str, Any] = dict.fromkeys(names, 0)
    for start in range(0, len(inputs), _BATCH):
        answers = session.run(list(outputs.values()), {taken.name: inputs[start : start + _BATCH].numpy()})
        for name, answer in zip(outputs, answers, strict=True):
            totals[name] = totals[name] + answer.reshape(len(answer), answer.shape[1], -1).mean(axis=2).sum(axis=0)
    return {name: total / len(inputs) for name, total in totals.items()}
