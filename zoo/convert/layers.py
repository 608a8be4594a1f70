"""The layers of a network in the order in which they run, and which of them feed which.

Two traces of one network compare, whether it is a torch module or the graph of an ONNX file: they hold layers with
tensors, all other operations only pass values on. A value is known by the layers that it comes from, as a sequence of
sets: one set for each part of a concatenation.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from zoo.errors import TensorMismatchError

MOST_PARTS = 4096
"""Parts of a concatenation; DenseNet has about 100."""

Parts = tuple[frozenset[int], ...]
"""The numbers of the layers that a value comes from."""


class Norm(NamedTuple):
    """Batch normalisation. In a trace of a module, keys of its state; in one of a file, tensors."""

    weight: Any
    bias: Any
    mean: Any
    var: Any
    eps: float


class Form(NamedTuple):
    """What a layer has in common with its counterpart in another trace: ``size`` weights for each output.

    ``kernel`` is the shape of a convolution that is not square.
    """

    kind: str
    channels: int
    size: int = 1
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = (1, 1)
    groups: int = 1

    def __str__(self) -> str:
        if self.kind == "normalisation":
            return f"normalisation of {self.channels} channels"
        kernel = f" of {' x '.join(map(str, self.kernel))}" if self.kernel else ""
        stride = f", stride {' x '.join(map(str, self.stride))}" if {*self.stride} != {1} else ""
        groups = f", {self.groups} groups" if self.groups > 1 else ""
        return f"layer{kernel} with weights {self.channels} x {self.size}{stride}{groups}"


class Value(NamedTuple):
    """``layer`` is the number of the layer whose output it is, if nothing was done to that."""

    parts: Parts = ()
    layer: int | None = None


@dataclass
class Layer:
    """A convolution or a linear layer with the normalisation behind it, or, without ``weight``, a normalisation alone.

    ``source`` names its input in the file.
    """

    form: Form
    inputs: Parts
    weight: Any = None
    bias: Any = None
    norm: Norm | None = None
    follows: int | None = None
    source: str = ""
    is_affine: bool = False
    """A scale and a shift, which may be a part of the layer before."""


@dataclass
class Trace:
    """Layers in the order in which they run; ``uses`` counts the operations that take the output of each."""

    layers: list[Layer] = field(default_factory=list)
    uses: dict[int, int] = field(default_factory=dict)
    output: Parts = ()

    def add(self, layer: Layer) -> Value:
        self.layers.append(layer)
        number = len(self.layers) - 1
        return Value((frozenset([number]),), number)

    def use(self, *values: Value) -> None:
        for value in values:
            if value.layer is not None:
                self.uses[value.layer] = self.uses.get(value.layer, 0) + 1


def convolution(shape: Sequence[int], stride: Iterable[int] = (1, 1), groups: int = 1) -> Form:
    """The form of a convolution with weights O I H W, or of a linear layer, O I, which is one as large as its input."""
    size = 1
    for side in shape[1:]:
        size *= side
    kernel = tuple(shape[2:])
    return Form("convolution", shape[0], size, kernel if len({*kernel}) > 1 else (), tuple(stride), groups)


def normalisation(channels: int) -> Form:
    return Form("normalisation", channels)


def concatenated(values: Iterable[Value]) -> Value:
    values = list(values)
    if (parts := sum(len(value.parts) for value in values)) > MOST_PARTS:  # a file may double them at every node
        raise TensorMismatchError(f"The graph concatenates {parts} parts, more than {MOST_PARTS}")
    return Value(tuple(part for value in values for part in value.parts))


def merged(values: Iterable[Value]) -> Value:
    """What an operation on several values gives: part by part if they have equally many."""
    parts = [value.parts for value in values if value.parts]
    if len({len(part) for part in parts}) <= 1:
        return Value(tuple(frozenset().union(*column) for column in zip(*parts, strict=True)))
    return Value((frozenset().union(*(part for several in parts for part in several)),))


def simplify(trace: Trace) -> tuple[list[Layer], Parts]:
    """The layers that the output depends on, each normalisation as part of the layer whose output it alone takes.

    Returns them with new numbers, and the parts of the output.
    """
    home = {number: number for number in range(len(trace.layers))}
    for number, layer in enumerate(trace.layers):
        if layer.weight is not None or layer.follows is None or trace.uses.get(layer.follows) != 1:
            continue
        before = trace.layers[home[layer.follows]]
        if before.form.channels != layer.form.channels or (before.norm is not None and not layer.is_affine):
            continue
        before.norm = layer.norm if before.norm is None else _scaled(before.norm, layer.norm)
        home[number] = home[layer.follows]
    parts = {number: _moved(layer.inputs, home) for number, layer in enumerate(trace.layers) if home[number] == number}
    needed, waiting = set(), {number for part in _moved(trace.output, home) for number in part}
    while waiting:
        needed.add(number := waiting.pop())
        waiting |= {feeding for part in parts[number] for feeding in part} - needed
    place = {number: index for index, number in enumerate(sorted(needed))}
    kept = [trace.layers[number] for number in place]
    for layer, number in zip(kept, place, strict=True):
        layer.inputs = _moved(parts[number], place)
    return kept, _moved(_moved(trace.output, home), place)


def _moved(parts: Parts, place: dict[int, int]) -> Parts:
    return tuple(frozenset(place[number] for number in part) for part in parts if part)


def _scaled(norm: Norm, behind: Norm | None) -> Norm:
    """``norm`` with a scale and a shift behind it."""
    assert behind is not None
    return norm._replace(weight=norm.weight * behind.weight, bias=norm.bias * behind.weight + behind.bias)
