"""Units of a layer: their values, computed without the layers above, and their gradient."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from zoo.creation import info_of
from zoo.data import ImageSet
from zoo.data import load as load_data
from zoo.errors import DataError, UnknownNameError, WeightsError
from zoo_look.network import as_maps, blank, name_of, submodule

Run = Callable[[Tensor], Tensor]
"""Inputs B C H W to the layer's output."""


class _Reached(Exception):  # noqa: N818  # no error: it ends a forward pass early
    pass


@contextmanager
def reached(model: nn.Module, layer: str) -> Iterator[Run]:
    """A function that runs ``model`` up to ``layer`` and no further, so that an input of any size will do.

    Its output is as the layer left it, save if more was done to it in place; of a module that runs several
    times it is the last. The empty name is the network's own output.
    """
    if not layer:
        yield model
        return
    module = submodule(model, layer)
    calls, wanted = 0, 0
    output: list[Tensor] = []

    def keep(module: nn.Module, _: object, result: object) -> None:
        nonlocal calls
        calls += 1
        if not isinstance(result, Tensor):
            raise WeightsError(f"{layer} outputs {type(result).__name__}, not a tensor. Choose one of its submodules.")
        if calls == wanted:
            output[:] = [result]
            raise _Reached

    def run(inputs: Tensor) -> Tensor:
        nonlocal calls
        calls = 0
        try:
            model(inputs)
        except _Reached:
            return output.pop()
        raise WeightsError(f"{layer} is not used in the forward pass of {name_of(model)}.")

    handle = module.register_forward_hook(keep)
    try:
        with torch.no_grad():
            model(blank(model))
        wanted = calls
        yield run
    finally:
        handle.remove()


def chosen_layer(model: nn.Module, layer: str | None) -> str:
    """``layer``, or the last of the network's default layers."""
    if layer is not None:
        return layer
    names: tuple[str, ...] = getattr(model, "default_layers", ())
    if not names:
        raise WeightsError(f"{name_of(model)} has no default layer.", hint="zoo look layers lists all layers.")
    return names[-1]


def check_channel(channel: int, count: int, layer: str) -> int:
    """``channel``; raises :class:`UnknownNameError` unless it is one of ``count``."""
    if not 0 <= channel < count:
        where = layer or "the output"
        raise UnknownNameError(f"There is no channel {channel} in {where}: it has 0 to {count - 1}.")
    return channel


def check_position(position: tuple[int, int], maps: Tensor, layer: str) -> tuple[int, int]:
    """``position`` (row, column); raises :class:`UnknownNameError` unless it lies in ``maps`` ... h w."""
    height, width = maps.shape[-2:]
    if not (0 <= position[0] < height and 0 <= position[1] < width):
        raise UnknownNameError(
            f"There is no unit {position} in {layer or 'the output'}: its maps are {height} x {width}."
        )
    return position


def downward(output: Tensor, inputs: Tensor, seed: Tensor, layer: str) -> Tensor:
    """``seed``, shaped as ``output``, followed back to ``inputs`` B C H W: by gradients, unless rules were changed.

    Raises :class:`WeightsError` if nothing leads there.
    """
    if not output.requires_grad:
        raise WeightsError(f"There is no gradient from {layer or 'the output'} to the image.")
    (found,) = torch.autograd.grad(output, inputs, seed, allow_unused=True)
    if found is None:
        raise WeightsError(f"{layer or 'The output'} does not depend on the image.")
    return found.detach()


def one_hot(maps: Tensor, channels: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """Zeros like ``maps`` B C h w but for ``values`` B at ``channels`` B and flattened ``places`` B."""
    seed = torch.zeros_like(maps).flatten(2)
    seed[torch.arange(len(maps), device=maps.device), channels, places] = values
    return seed.view(maps.shape)


def images_of(model: nn.Module, data: str | ImageSet | None, split: str) -> ImageSet:
    """The split by name or as a value; without ``data``, of the set whose classes ``model`` knows."""
    if isinstance(data, ImageSet):
        return data
    name = data or info_of(model).classes
    if not name:
        raise DataError(f"{name_of(model)} does not name a data set.", hint="Set one (data=NAME).")
    return load_data(name, split)


def maps_of(output: Tensor, layer: str) -> Tensor:
    """As :func:`zoo_look.network.as_maps`, with the network's own output as a layer."""
    return as_maps(output, layer or "The output")
