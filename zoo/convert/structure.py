"""Matches the layers of an ONNX file with those of a network, whatever the file calls its tensors.

Layers match by kind, shape and stride and by the layers that feed them and that they feed. If that leaves several
arrangements, all of the first few are returned: only their outputs tell which is right.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor

from zoo import loading
from zoo.convert import fitting, layers, trace_graph, trace_module
from zoo.convert.fitting import Fitted
from zoo.convert.layers import Layer, Norm
from zoo.errors import (
    FileFormatError,
    MissingExtraError,
    PluginError,
    SpecError,
    TensorMismatchError,
    UnknownNameError,
    ZooError,
)
from zoo.registry import Found
from zoo.spec import KeyMap

MOST = 16
"""Arrangements of a file's layers that are tried."""


def read(
    model: Any, tensors: Mapping[str, Tensor], maps: list[KeyMap], found: Found, args: Mapping[str, Any], *, trunk: bool
) -> list[Fitted]:
    """The arrangements of the graph of ``model`` with the initialisers ``tensors`` that fit a network of ``found``.

    Only the arguments, the input and the classes of ``maps`` count. Raises :class:`TensorMismatchError` if none fits.
    """
    output = trace_graph.output_of(model).name
    try:
        theirs, ends = layers.simplify(trace_graph.trace(model, tensors, output))
    except ZooError:
        raise
    except Exception as error:  # a damaged graph may do anything
        raise FileFormatError(f"The graph cannot be read: {type(error).__name__}: {error}") from None
    if not theirs:
        raise TensorMismatchError("The graph has no convolution, normalisation or linear layer with weights.")
    names = {id(tensor): name for name, tensor in tensors.items()}
    classes = 0 if trunk else theirs[max(ends[-1])].form.channels
    fits: list[Fitted] = []
    problems: list[TensorMismatchError] = []
    distinct: dict[str, KeyMap] = {}
    for known in maps:
        distinct.setdefault(str(known.args), known)
    for known in distinct.values():
        key_map = _without_names(known, is_stated=len(maps) == 1)
        try:
            ours = _layers_of(found, {**known.args, **args}, theirs, classes)
            head = _head(theirs, ours, ends) if trunk else None
            kept = [layer for layer in theirs if layer is not head]
            for number, places in enumerate(islice(_arrangements(kept, ours), MOST), start=1):
                called = msgspec.structs.replace(key_map, name=f"{key_map.name}{f' {number}' if number > 1 else ''}")
                state, changes = _state([kept[place] for place in places], ours, names)
                fitted = fitting.read_by(called, state, found, args, "The file", trunk=trunk)
                if fitted.problem is not None:
                    raise fitted.problem
                fitted.is_structural = True
                fitted.renamed = changes.renamed
                fitted.folded += changes.folded
                if head is not None:
                    fitted.features = head.source
                    fitted.dropped = [names[id(tensor)] for tensor in (head.weight, head.bias) if id(tensor) in names]
                fits.append(fitted)
        except TensorMismatchError as error:
            problems.append(error)
        except MissingExtraError:
            raise
        except (PluginError, SpecError, UnknownNameError) as error:  # a network that cannot take the map's arguments
            problems.append(TensorMismatchError(error.message))
    if not fits:
        raise problems[0]
    return fits


def _without_names(known: KeyMap, *, is_stated: bool) -> KeyMap:
    """The map without its names; its form of the input is an assumption that no output could refute."""
    fields = ("input_order", "input_scale", "preprocess", "classes", "origin") if is_stated else ()
    return KeyMap(f"{known.name} by structure", args=known.args, **{name: getattr(known, name) for name in fields})


def _layers_of(found: Found, args: Mapping[str, Any], theirs: list[Layer], classes: int) -> list[Layer]:
    """The layers of the network with as many classes and channels as the file's."""
    weight = theirs[0].weight
    is_convolution = weight is not None and weight.ndim == 4
    channels = weight.shape[1] * theirs[0].form.groups if is_convolution else found.model.preprocess.input_size[0]
    try:
        with torch.device("meta"):
            module, info = loading.build(found.model, num_classes=classes, in_chans=channels, **args)
            traced = trace_module.trace(module, torch.empty(2, *info.preprocess.input_size))
    except (RuntimeError, NotImplementedError) as error:  # it looks at values, and the meta device has none
        raise TensorMismatchError(f"The layers of {found.model.name} cannot be listed: {error}") from None
    return layers.simplify(traced)[0]


def _head(theirs: list[Layer], ours: list[Layer], ends: layers.Parts) -> Layer | None:
    """The file's last layer, if the network has all but that one."""
    last = {number for part in ends for number in part}
    return theirs[last.pop()] if len(last) == 1 and len(theirs) == len(ours) + 1 else None


# ---- which layer is which -------------------------------------------------------------------------------


def _arrangements(theirs: list[Layer], ours: list[Layer]) -> Iterator[list[int]]:
    """For each layer of ``ours`` the place of its counterpart in ``theirs``, in every way in which they match.

    Raises :class:`TensorMismatchError` if the layers differ in kind, shape or number.
    """
    extra, missing = (Counter(layer.form for layer in side) for side in (theirs, ours))
    if extra != missing:
        lines = [f"only in the file     {count} x {form}" for form, count in (extra - missing).items()]
        lines += [f"only in the network  {count} x {form}" for form, count in (missing - extra).items()]
        raise TensorMismatchError(
            f"The file has {len(theirs)} layers and the network {len(ours)}; they differ:\n  " + "\n  ".join(lines),
            hint="If the file has no head, --trunk (Stated(trunk=True)) converts to a network that computes features."
            if not extra - missing and (missing - extra).total() == 1
            else "",
        )
    sides = (theirs, ours)
    colours = tuple([hash(layer.form) for layer in side] for side in sides)
    found = _matched(sides, colours)
    first = next(found, None)
    if first is not None:
        yield first
        yield from found
    elif [layer.form for layer in theirs] == [layer.form for layer in ours]:  # another graph of the same function?
        yield list(range(len(ours)))
    else:
        raise TensorMismatchError(
            f"The {len(theirs)} layers of the file have the shapes of the network's, but are connected otherwise."
        )


def _matched(sides: tuple[list[Layer], ...], colours: tuple[list[int], ...]) -> Iterator[list[int]]:
    """Colours layers by their neighbours' colours until equal ones cannot be told apart, then tries each of those."""
    colours = _refined(sides, colours)
    places: dict[int, tuple[list[int], list[int]]] = {}
    for side, held in enumerate(colours):
        for place, colour in enumerate(held):
            places.setdefault(colour, ([], []))[side].append(place)
    if any(len(left) != len(right) for left, right in places.values()):
        return
    several = [pair for pair in places.values() if len(pair[1]) > 1]
    if not several:
        yield [places[colour][0][0] for colour in colours[1]]
        return
    left, right = min(several, key=lambda pair: pair[1][0])
    for place in left:
        theirs, ours = list(colours[0]), list(colours[1])
        theirs[place] = ours[right[0]] = hash(("chosen", colours[1][right[0]]))
        yield from _matched(sides, (theirs, ours))


def _refined(sides: tuple[list[Layer], ...], colours: tuple[list[int], ...]) -> tuple[list[int], ...]:
    followers = []
    for side in sides:
        behind: list[list[tuple[int, tuple[int, ...]]]] = [[] for _ in side]
        for number, layer in enumerate(side):
            for feeding in frozenset().union(*layer.inputs):
                at = tuple(index for index, part in enumerate(layer.inputs) if feeding in part)
                behind[feeding].append((number, at))
        followers.append(behind)
    count = 0
    while count < (count := len({*colours[0], *colours[1]})):
        colours = tuple(
            [
                hash(
                    (
                        held[number],
                        tuple(tuple(sorted(held[feeding] for feeding in part)) for part in layer.inputs),
                        tuple(sorted((held[follower], at) for follower, at in behind[number])),
                    )
                )
                for number, layer in enumerate(side)
            ]
            for side, held, behind in zip(sides, colours, followers, strict=True)
        )
    return colours


# ---- their tensors as ours ------------------------------------------------------------------------------


class _Changes(NamedTuple):
    """``renamed`` pairs the file's names with keys, ``folded`` says what became a part of which tensor."""

    renamed: list[tuple[str, str]]
    folded: list[str]


def _state(theirs: list[Layer], ours: list[Layer], names: Mapping[int, str]) -> tuple[dict[str, Tensor], _Changes]:
    """The tensors of ``theirs`` under the keys of ``ours``; ``names`` are the file's, by the ids of tensors."""
    state: dict[str, Tensor] = {}
    changes = _Changes([], [])
    try:
        for their, our in zip(theirs, ours, strict=True):
            for key, tensor in _tensors(their, our, changes.folded):
                state[key] = tensor
                if (name := names.get(id(tensor), key)) != key:
                    changes.renamed.append((name, key))
    except RuntimeError as error:  # tensors of one layer that do not fit each other
        raise TensorMismatchError(f"The tensors of a layer have shapes that do not fit: {error}") from None
    return state, changes


def _tensors(their: Layer, our: Layer, folded: list[str]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of ``their`` layer under the keys of ``our`` layer."""
    weight, bias, norm = their.weight, their.bias, their.norm
    if our.norm is None and norm is not None:
        scale = norm.weight / (norm.var + norm.eps).sqrt()
        weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
        bias = ((0 if bias is None else bias) - norm.mean) * scale + norm.bias
        folded.append(f"the normalisation behind it into {our.weight}")
    if our.norm is not None:
        if norm is None:
            norm, bias = _identity(bias, weight.shape[0], is_held=our.bias is not None), bias if our.bias else None
            folded.append(f"by its author, into {our.weight}: {our.norm.mean.rpartition('.')[0]}, here an identity")
        elif bias is not None and our.bias is None:
            norm, bias = norm._replace(mean=norm.mean - bias), None
            folded.append(f"the bias before it into {our.norm.mean}")
        yield from _tensors_of_norm(norm, our.norm, folded)
    if our.weight is not None:
        yield our.weight, weight
        if our.bias is not None:
            yield our.bias, torch.zeros(weight.shape[0]) if bias is None else bias
        elif bias is not None:
            raise TensorMismatchError(f"{our.weight} has a bias in the file, and none in the network")


def _identity(bias: Tensor | None, channels: int, *, is_held: bool) -> Norm:
    zeros, ones = torch.zeros(channels), torch.ones(channels)
    return Norm(ones, zeros if bias is None or is_held else bias, zeros, ones, 0.0)


def _tensors_of_norm(theirs: Norm, ours: Norm, folded: list[str]) -> Iterator[tuple[str, Tensor]]:
    """sqrt(variance + their epsilon) is sqrt((variance + their epsilon - ours) + ours)."""
    if ours.weight is None or ours.bias is None:
        raise TensorMismatchError(f"the normalisation of {ours.mean} has no scale or no shift in the network")
    var = theirs.var
    if not math.isclose(theirs.eps, ours.eps, rel_tol=1e-6):  # ONNX has it as float32
        var = (var.double() + (theirs.eps - ours.eps)).float()
        if theirs.eps:
            folded.append(f"epsilon {theirs.eps:g}, here {ours.eps:g}, into {ours.var}")
    yield from ((ours.weight, theirs.weight), (ours.bias, theirs.bias), (ours.mean, theirs.mean), (ours.var, var))
