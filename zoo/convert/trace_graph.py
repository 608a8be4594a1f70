"""Traces the graph of an ONNX file."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.convert import layers
from zoo.convert.layers import Layer, Norm, Trace, Value

_SAME = {"Identity", "Dropout", "Cast"}
_SHAPED = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}
_SOFTMAX = {"Softmax", "LogSoftmax"}
_SHAPES = {"Shape", "Size"}
"""Give whole numbers, which come from no layer."""


class Output(NamedTuple):
    """The name of the file's logits; if ``is_softmax``, the file computes probabilities from them."""

    name: str
    is_softmax: bool


def output_of(model: Any) -> Output:
    """The first output, without a softmax at the end."""
    name = first = model.graph.output[0].name if model.graph.output else ""
    for node in reversed(model.graph.node):  # they are in the order in which they run
        if name not in node.output or not node.input:
            continue
        name = node.input[0]
        if node.op_type in _SOFTMAX:
            return Output(name, True)
        if node.op_type not in {*_SAME, *_SHAPED}:
            break
    return Output(first, False)


def trace(model: Any, tensors: Mapping[str, Tensor], output: str) -> Trace:
    """The trace up to ``output`` of a graph with the initialisers ``tensors``, and others that are shapes."""
    from onnx import numpy_helper

    graph = _Graph(dict(tensors))
    for initialiser in model.graph.initializer:
        if initialiser.name not in tensors:
            graph.constants[initialiser.name] = torch.from_numpy(numpy_helper.to_array(initialiser).copy())
    for images in model.graph.input:  # files of old also list their tensors as inputs
        if images.name not in graph.constants:
            graph.values[images.name] = Value()
    for node in model.graph.node:
        graph.run(node)
    graph.trace.output = graph.values.get(output, Value()).parts
    return graph.trace


class _Graph:
    def __init__(self, constants: dict[str, Tensor]) -> None:
        self.trace = Trace()
        self.values: dict[str, Value] = {}
        self.constants = constants

    def run(self, node: Any) -> None:
        from onnx import helper

        about = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        constant = self._constant(node, about)
        if constant is not None:
            self.constants[node.output[0]] = constant
            return
        value = self._value(node, about)
        for name in node.output:
            self.values[name] = value

    def _constant(self, node: Any, about: dict[str, Any]) -> Tensor | None:
        """What ``node`` gives whatever the image is, of the few operations that stand between weights and layers."""
        from onnx import numpy_helper

        if node.op_type == "Constant" and "value" in about:
            return torch.from_numpy(numpy_helper.to_array(about["value"]).copy())
        if not node.input or any(name and name not in self.constants for name in node.input):
            return None
        tensor = self.constants[node.input[0]]
        if node.op_type in _SAME:
            return tensor
        if node.op_type == "Transpose":
            return tensor.permute(about.get("perm", [*reversed(range(tensor.ndim))]))
        if node.op_type == "Reshape" and len(node.input) == 2:
            sizes = self.constants[node.input[1]].tolist()
            return tensor.reshape([size or tensor.shape[place] for place, size in enumerate(sizes)])
        return tensor.flatten() if node.op_type in _SHAPED and tensor.squeeze().ndim <= 1 else None

    def _value(self, node: Any, about: dict[str, Any]) -> Value:
        given = [self.values[name] for name in node.input if name in self.values]
        if node.op_type in _SHAPES or not given:
            return Value()
        if node.op_type in _SAME:
            return given[0]
        self.trace.use(*given)
        if node.op_type == "Concat":
            return layers.concatenated(given)
        if layer := self._layer(node, about, given):
            layer.source = node.input[0]
            return self.trace.add(layer)
        return layers.merged(given)

    def _layer(self, node: Any, about: dict[str, Any], given: list[Value]) -> Layer | None:
        held = [self.constants.get(name) for name in node.input]
        source = given[0]
        if node.op_type == "BatchNormalization" and all(tensor is not None for tensor in held[1:5]):
            weight, bias, mean, var = held[1:5]
            norm = Norm(weight, bias, mean, var, about.get("epsilon", 1e-5))
            return Layer(layers.normalisation(len(norm.mean)), source.parts, norm=norm, follows=source.layer)
        if len(given) > 1:
            return None
        if node.op_type == "Conv" and held[1] is not None and held[1].ndim == 4:
            form = layers.convolution(held[1].shape, about.get("strides", (1, 1)), about.get("group", 1))
            return Layer(form, source.parts, held[1], held[2] if len(held) > 2 else None)
        if node.op_type == "Gemm" and held[1] is not None and not about.get("transA"):
            weight = _scaled(held[1] if about.get("transB") else held[1].T, about.get("alpha", 1.0))
            bias = _scaled(held[2], about.get("beta", 1.0)) if len(held) > 2 and held[2] is not None else None
            return Layer(layers.convolution(weight.shape), source.parts, weight, bias)
        if node.op_type == "MatMul" and held[1] is not None and held[1].ndim == 2:
            return Layer(layers.convolution(held[1].T.shape), source.parts, held[1].T)
        if node.op_type in ("Mul", "Add"):
            return self._affine(node.op_type, next((tensor for tensor in held if tensor is not None), None), source)
        return None

    def _affine(self, kind: str, vector: Tensor | None, source: Value) -> Layer | None:
        """A scale or a shift of each channel: a linear layer's bias, or a part of a normalisation."""
        if vector is None or not vector.is_floating_point() or not 1 < vector.numel() == max(vector.shape):
            return None
        vector = vector.flatten()
        zeros, ones = torch.zeros_like(vector), torch.ones_like(vector)
        norm = Norm(vector, zeros, zeros, ones, 0.0) if kind == "Mul" else Norm(ones, vector, zeros, ones, 0.0)
        form = layers.normalisation(len(vector))
        return Layer(form, source.parts, norm=norm, follows=source.layer, is_affine=True)


def _scaled(tensor: Tensor, factor: float) -> Tensor:
    return tensor if factor == 1 else tensor * factor
