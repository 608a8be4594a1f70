"""Receptive fields: the pixels that a unit can see, found by tracing the operations of one forward pass.

Beside each tensor goes its reach: for every element the first and last row and column of the image that it depends on.
Operations that move elements move their reach with them; those that combine elements take the union. So strides,
padding, dilation, ceil modes, branches, concatenations, residuals and global layers need no rule of their own, whether
they are modules or functions. An operation without a rule counts as one that looks everywhere (:attr:`coarse`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from zoo_look import receptive_rules
from zoo_look.network import blank, opened
from zoo_look.units import Run, chosen_layer, maps_of, reached

NOTHING = -torch.inf

Box = tuple[int, int, int, int]
"""Top, left, bottom, right; the last two lie outside."""


class Geometry(NamedTuple):
    """Along rows or columns: unit i sees ``size`` pixels from ``offset + i * stride`` on, were there no border."""

    size: int
    stride: int
    offset: int


@dataclass(frozen=True, eq=False)
class ReceptiveField:
    """``boxes`` int64 C h w 4 of the units of ``layer``: top, left, bottom and right (outside), within the image.

    The smallest rectangles that hold what a unit depends on; zeros if it depends on nothing. ``coarse`` names
    operations that were taken to look everywhere: usually because they do, as attention and sampling grids.
    """

    layer: str
    image: tuple[int, int]
    boxes: Tensor
    coarse: tuple[str, ...]

    def box(self, channel: int, row: int, column: int) -> Box:
        top, left, bottom, right = self.boxes[channel, row, column].tolist()
        return top, left, bottom, right

    def rows(self, channel: int) -> Geometry | None:
        """Down a column of units; None if the image is too small to show it: look at a larger one."""
        middle = self.boxes[channel, :, self.boxes.shape[2] // 2]
        return _geometry(middle[:, 0].tolist(), middle[:, 2].tolist())

    def columns(self, channel: int) -> Geometry | None:
        """Along a row of units, as :meth:`rows`."""
        middle = self.boxes[channel, self.boxes.shape[1] // 2]
        return _geometry(middle[:, 1].tolist(), middle[:, 3].tolist())


def receptive_field(
    model: str | nn.Module, layer: str | None = None, *, size: tuple[int, int] | None = None, **args: Any
) -> ReceptiveField:
    """Which pixels the units of a layer depend on.

    Args:
        model: A name, for which trained weights are used, or a network that :func:`zoo.create` returned.
        layer: The layer's name. By default the last default layer.
        size: Height and width of the image. By default those of the network's input.
        args: ``device``, and, if ``model`` is a name, ``weights`` and arguments of the family's build function.

    Returns:
        A box of pixels for each unit, and the operations for which it may be too large.

    Raises:
        UnknownNameError: There is no such layer.

    Example:
        >>> import zoo
        >>> zoo.look.receptive_field("resnet20.digits", "conv1", size=(16, 16)).box(0, 8, 8)
        (7, 7, 10, 10)
    """
    with opened(model, **args) as network:
        layer = chosen_layer(network, layer)
        image = blank(network, size)
        with reached(network, layer) as run:
            boxes, coarse = boxes_of(run, image, layer)
    return ReceptiveField(layer, (image.shape[2], image.shape[3]), boxes, coarse)


def boxes_of(run: Run, image: Tensor, layer: str) -> tuple[Tensor, tuple[str, ...]]:
    """Boxes int64 C h w 4 and coarse operations, as :class:`ReceptiveField` has them, for an ``image`` 1 C H W."""
    image = image.clone()
    with torch.no_grad(), Reaches(image) as reaches:
        output = run(image)
    sides = [maps_of(side, layer)[0].cpu() for side in reaches.of(output)]
    sees = sides[0] > NOTHING
    up, down, left, right = (torch.where(sees, side, 0).long() for side in sides)
    boxes = torch.stack([-up, -left, torch.where(sees, down + 1, 0), torch.where(sees, right + 1, 0)], dim=-1)
    return boxes, tuple(sorted(reaches.coarse))


def _geometry(starts: list[int], ends: list[int]) -> Geometry | None:
    # At the border several units share a start or an end; where it moves, it is a unit's own.
    free_starts = [i for i, start in enumerate(starts) if start > min(starts)]
    free_ends = [i for i, end in enumerate(ends) if end < max(ends)]
    steps = {starts[b] - starts[a] for a, b in pairwise(free_starts)}
    steps |= {ends[b] - ends[a] for a, b in pairwise(free_ends)}
    if len(steps) != 1 or not free_starts or not free_ends:
        return None
    stride = steps.pop()
    offset = starts[free_starts[0]] - free_starts[0] * stride
    return Geometry(ends[free_ends[0]] - free_ends[0] * stride - offset, stride, offset)


class Reach(NamedTuple):
    """Four tensors of the shape of the one they belong to; the union of two is their maximum.

    Rows and columns of the image; ``up`` and ``left`` negated.
    """

    up: Tensor
    down: Tensor
    left: Tensor
    right: Tensor

    def map(self, change: Callable[[Tensor], Any]) -> Any:
        """``change`` of each; of changes that give several tensors, a reach each."""
        sides = [change(side) for side in self]
        if isinstance(sides[0], Tensor):
            return Reach(*sides)
        return [Reach(*parts) for parts in zip(*sides, strict=True)]

    def whole(self) -> list[Tensor]:
        return [side.max() if side.numel() else side.new_tensor(NOTHING) for side in self]


class Reaches(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own is not typed
    """Within it, :meth:`of` knows the reach of every tensor that was computed of ``image``, 1 C H W."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own is not typed
        rows = torch.arange(image.shape[2], device=image.device, dtype=torch.float32)[:, None].expand(image.shape)
        columns = torch.arange(image.shape[3], device=image.device, dtype=torch.float32).expand(image.shape)
        self._of: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._of[image] = Reach(*(side.clone() for side in (-rows, rows, -columns, columns)))
        self.coarse: set[str] = set()

    def of(self, tensor: Tensor) -> Reach:
        found: Reach = self._of[tensor] if tensor in self._of else _nothing(tensor)
        return found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        tensors = [value for value in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        outputs = list(output) if isinstance(output, list | tuple) else [output]
        if not any(tensor in self._of for tensor in tensors):
            if not tensors:  # a new tensor, which may be filled with what depends on the image
                for new in outputs:
                    if isinstance(new, Tensor):
                        self._of[new] = _nothing(new)
            return output
        found = self._follow(func, args, kwargs, tensors, outputs)
        written = func._schema.is_mutable
        for new, reach in zip(outputs, found, strict=False):
            if not isinstance(new, Tensor):
                continue
            if written and new in self._of:
                for side, value in zip(self._of[new], reach, strict=True):
                    side.copy_(value)  # so that what it is a view of learns of it
            else:
                self._of[new] = reach
        return output

    def _follow(self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor], outputs: list[Any]) -> list[Reach]:
        named = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)} | kwargs
        packet = func.overloadpacket
        shape = outputs[0].shape if isinstance(outputs[0], Tensor) else ()
        if packet in receptive_rules.FRESH:
            return [_nothing(new) for new in outputs]
        if torch.Tag.pointwise in func.tags or packet in receptive_rules.POINTWISE:
            return [self._union(tensors, outputs[0])]
        rule = receptive_rules.RULES.get(packet)
        indices = [named.get(name) for name in ("index", "indices")]
        data_dependent = any(
            tensor in self._of and self.of(tensor).down.max() > NOTHING
            for tensor in torch.utils._pytree.tree_leaves(indices)
            if isinstance(tensor, Tensor) and tensor.numel()
        )
        if rule is not None and not data_dependent:
            found = rule(self.of, named, shape)
            if found is not None:
                reaches = found if isinstance(found, list) else [found]
                # Beside values, the places where they were found depend on the same.
                same = [reaches[0] for new in outputs[1:] if isinstance(new, Tensor) and new.shape == shape]
                return reaches if len(reaches) > 1 else [*reaches, *same]
        if packet in receptive_rules.MOVING and not data_dependent:
            found = self._move(func, args, kwargs)
            return found if isinstance(found, list) else [found]
        self.coarse.add(str(packet).removeprefix("aten."))
        sides = [self.of(tensor).whole() for tensor in tensors if tensor in self._of]
        whole = [torch.stack(values).max() for values in zip(*sides, strict=True)]
        return [
            Reach(*(torch.full(new.shape, float(value), device=new.device) for value in whole))
            for new in outputs
            if isinstance(new, Tensor)
        ]

    def _union(self, tensors: list[Tensor], output: Tensor) -> Reach:
        reaches = [self.of(tensor) for tensor in tensors if tensor in self._of]
        sides = []
        for values in zip(*reaches, strict=True):
            side = values[0].expand(output.shape)
            for value in values[1:]:
                side = torch.maximum(side, value.expand(output.shape))
            sides.append(side.clone())
        return Reach(*sides)

    def _move(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The same operation done to the reaches of its arguments."""

        def side(number: int) -> Any:
            def swap(value: Any) -> Any:
                is_number = isinstance(value, Tensor) and (value.is_floating_point() or value in self._of)
                return self.of(value)[number] if is_number else value

            moved_args, moved_kwargs = torch.utils._pytree.tree_map(swap, (args, kwargs))
            is_view = func.overloadpacket in receptive_rules.VIEWS  # memory may lie otherwise than the tensor's
            return moved_args[0].reshape(moved_args[1]) if is_view else func(*moved_args, **moved_kwargs)

        sides = [side(number) for number in range(4)]
        return Reach(*sides) if isinstance(sides[0], Tensor) else [Reach(*parts) for parts in zip(*sides, strict=True)]


def _nothing(tensor: Tensor) -> Reach:
    return Reach(*(torch.full(tensor.shape, NOTHING, device=tensor.device) for _ in range(4)))
