"""Receptive fields: the pixels that a unit can see, found by tracing the operations of one forward pass.

Beside each tensor goes its reach: for every element the first and last row and column of the image that it depends on.
Operations that move elements move their reach with them; those that combine elements take the union. So strides,
padding, dilation, ceil modes, branches, concatenations, residuals and global layers need no rule of their own, whether
they are modules or functions. An operation without a rule counts as one that looks everywhere (:attr:`coarse`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from zoo_look.network import Run, blank, chosen_layer, maps_of, opened, reached

aten = torch.ops.aten
NOTHING = -torch.inf

Of = Callable[[Tensor], "Reach"]
Named = Mapping[str, Any]
Rule = Callable[[Of, Named, Sequence[int]], Any]

FRESH: set[Any] = {
    *(aten.zeros_like, aten.ones_like, aten.empty_like, aten.full_like, aten.rand_like, aten.randn_like),
    *(aten.new_zeros, aten.new_ones, aten.new_empty, aten.new_full, aten.zero_),
}
"""Their values do not depend on what they are made like."""

POINTWISE: set[Any] = {
    *(aten.clone, aten._to_copy, aten.copy_, aten.copy, aten.contiguous, aten.fill_, aten.gelu, aten.native_dropout),
    *(aten.hardtanh, aten.leaky_relu, aten.elu, aten.softplus, aten._prelu_kernel, aten.lerp, aten.addcmul),
}
"""Operations on each element alone, beside those that torch itself marks so."""

MOVING: set[Any] = {
    *(aten.view, aten._unsafe_view, aten.reshape, aten._reshape_alias, aten.permute, aten.transpose, aten.t),
    *(aten.expand, aten.slice, aten.select, aten.squeeze, aten.unsqueeze, aten.narrow, aten.alias),
    *(aten.split, aten.split_with_sizes, aten.unbind, aten.cat, aten.stack, aten.flip, aten.roll, aten.detach),
    *(aten.reflection_pad2d, aten.replication_pad2d, aten.index_select, aten.gather, aten.index, aten.unfold),
    *(
        aten.diagonal,
        aten.repeat,
        aten.pixel_shuffle,
        aten.pixel_unshuffle,
        aten.channel_shuffle,
        aten.upsample_nearest2d,
    ),
    *(aten.rot90, aten.movedim, aten.squeeze_, aten.unsqueeze_, aten.transpose_, aten.lift_fresh),
}
"""They put elements elsewhere and combine none."""

VIEWS: set[Any] = {aten.view, aten._unsafe_view, aten.reshape, aten._reshape_alias}


# ---- Rules: which inputs the outputs of torch's operations depend on -------------------------------------------------


def _pair(value: Any) -> tuple[int, int]:
    values = [value, value] if isinstance(value, int) else list(value)
    return (values[0], values[-1])


def _windows(reach: "Reach", kernel: Any, stride: Any, padding: Any, dilation: Any, shape: Sequence[int]) -> "Reach":
    """Returns the union over each window; outside the image there is nothing. ``shape`` says how many windows there
    are.
    """
    kernel, padding, dilation = _pair(kernel), _pair(padding), _pair(dilation)
    stride = _pair(stride) if stride else kernel

    def slide(side: Tensor) -> Tensor:
        height, width = (
            (count - 1) * step + (reach_ - 1) * spread + 1
            for count, step, reach_, spread in zip(shape[-2:], stride, kernel, dilation, strict=True)
        )
        bottom, right = height - side.shape[-2] - padding[0], width - side.shape[-1] - padding[1]
        padded = F.pad(side, (padding[1], right, padding[0], bottom), value=NOTHING)
        return F.max_pool2d(padded, kernel, stride, dilation=dilation)

    union: Reach = reach.map(slide)
    return union


def _convolution(of: Of, named: Named, shape: Sequence[int]) -> "Reach | None":
    if named["transposed"] or len(shape) != 4 or of(named["weight"]).down.max() > NOTHING:
        return None
    groups, kernel = named["groups"], named["weight"].shape[2:]
    # B C H W -> B groups H W, since every channel of a group sees all of the group
    joined = of(named["input"]).map(lambda side: side.reshape(len(side), groups, -1, *side.shape[2:]).amax(2))
    seen = _windows(joined, kernel, named["stride"], named["padding"], named["dilation"], shape)
    whole: Reach = seen.map(lambda side: side.repeat_interleave(shape[1] // groups, dim=1))
    return whole


def _pool(of: Of, named: Named, shape: Sequence[int]) -> "Reach":
    stride, dilation = named.get("stride", ()), named.get("dilation", 1)
    return _windows(of(named["self"]), named["kernel_size"], stride, named.get("padding", 0), dilation, shape)


def _pool3d(of: Of, named: Named, shape: Sequence[int]) -> Any:
    """Returns B C D H W, as response normalisation over neighbouring maps pools."""
    depth, rows, columns = torch.broadcast_to(torch.tensor(named.get("padding", 0)), (3,)).tolist()

    def slide(side: Tensor) -> Tensor:
        padded = F.pad(side, (columns, columns, rows, rows, depth, depth), value=NOTHING)
        return F.max_pool3d(padded, named["kernel_size"], named.get("stride") or named["kernel_size"])

    return None if named.get("ceil_mode") else of(named["self"]).map(slide)


def _adaptive(of: Of, named: Named, shape: Sequence[int]) -> Any:
    return of(named["self"]).map(lambda side: F.adaptive_max_pool2d(side, _pair(named["output_size"])))


def _dims(named: Named, tensor: Tensor) -> list[int]:
    dim = named.get("dim")
    if dim is None or dim == []:
        return list(range(tensor.ndim))
    return [dim] if isinstance(dim, int) else list(dim)


def _reduced(of: Of, named: Named, shape: Sequence[int]) -> Any:
    tensor = named["self"]
    if "other" in named:
        return None
    return of(tensor).map(lambda side: side.amax(_dims(named, tensor), keepdim=len(shape) == tensor.ndim))


def _along(of: Of, named: Named, shape: Sequence[int]) -> Any:
    """Makes every element see all along a dimension, which stays (softmax) or keeps its first (top k)."""
    tensor, dim = named["self"], named.get("dim", -1)
    return of(tensor).map(lambda side: side.amax(dim, keepdim=True).expand(shape).contiguous())


def _matrix(of: Of, named: Named, shape: Sequence[int]) -> Any:
    """Multiplies ``mat1`` n k by ``mat2`` k m, and what is added."""
    if "mat1" in named and of(named["self"]).down.max() > NOTHING:
        return None
    left = of(named["mat1"] if "mat1" in named else named["self"])
    right = of(named["mat2"])
    rows = left.map(lambda side: side.amax(-1, keepdim=True))
    columns = right.map(lambda side: side.amax(-2, keepdim=True))
    sides = [torch.maximum(a, b).expand(shape).contiguous() for a, b in zip(rows, columns, strict=True)]
    return type(left)(*sides)


def _batch_norm(of: Of, named: Named, shape: Sequence[int]) -> "Reach | None":
    if named.get("training"):
        return None
    return of(named["input"]).map(Tensor.clone)  # type: ignore[no-any-return]  # a reach


def _layer_norm(of: Of, named: Named, shape: Sequence[int]) -> Any:
    dims = list(range(-len(named["normalized_shape"]), 0))
    return of(named["input"]).map(lambda side: side.amax(dims, keepdim=True).expand(shape).contiguous())


def _group_norm(of: Of, named: Named, shape: Sequence[int]) -> Any:
    def join(side: Tensor) -> Tensor:
        groups = side.reshape(shape[0], named["group"], -1)
        return groups.amax(2, keepdim=True).expand(groups.shape).reshape(shape)

    return of(named["input"]).map(join)


def _padded(of: Of, named: Named, shape: Sequence[int]) -> Any:
    return of(named["self"]).map(lambda side: F.pad(side, named["pad"], value=NOTHING))


def _patches(of: Of, named: Named, shape: Sequence[int]) -> Any:
    """Unfolds as ``F.unfold``: B C H W to B (C kernel) L."""
    rows, columns = _pair(named["padding"])

    def unfold(side: Tensor) -> Tensor:
        padded = F.pad(side, (columns, columns, rows, rows), value=-1e9)  # infinite ones would become NaN
        return F.unfold(padded, named["kernel_size"], named["dilation"], 0, named["stride"])

    return of(named["self"]).map(lambda side: torch.where(unfold(side) < -1e8, NOTHING, unfold(side)))


RULES: dict[Any, Rule] = {
    aten.convolution: _convolution,
    **dict.fromkeys((aten.max_pool2d_with_indices, aten.avg_pool2d, aten.max_pool2d), _pool),
    aten.avg_pool3d: _pool3d,
    **dict.fromkeys((aten._adaptive_avg_pool2d, aten.adaptive_max_pool2d), _adaptive),
    **dict.fromkeys((aten.sum, aten.mean, aten.amax, aten.amin, aten.max, aten.min, aten.prod), _reduced),
    **dict.fromkeys((aten.var, aten.std, aten.logsumexp, aten.linalg_vector_norm, aten.norm, aten.argmax), _reduced),
    **dict.fromkeys((aten.any, aten.all, aten.argmin, aten.var_mean), _reduced),
    **dict.fromkeys((aten._softmax, aten._log_softmax, aten.cumsum, aten.sort, aten.topk), _along),
    **dict.fromkeys((aten.mm, aten.bmm, aten.addmm), _matrix),
    **dict.fromkeys((aten.native_batch_norm, aten.cudnn_batch_norm, aten._native_batch_norm_legit), _batch_norm),
    aten._native_batch_norm_legit_no_training: _batch_norm,
    aten.native_layer_norm: _layer_norm,
    aten.native_group_norm: _group_norm,
    aten.constant_pad_nd: _padded,
    aten.im2col: _patches,
}


# ---- Receptive fields ------------------------------------------------------------------------------------------------

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
        """Returns the geometry down a column of units; None if the image is too small to show it: look at a larger
        one."""
        middle = self.boxes[channel, :, self.boxes.shape[2] // 2]
        return _geometry(middle[:, 0].tolist(), middle[:, 2].tolist())

    def columns(self, channel: int) -> Geometry | None:
        """Returns the geometry along a row of units, as :meth:`rows`."""
        middle = self.boxes[channel, self.boxes.shape[1] // 2]
        return _geometry(middle[:, 1].tolist(), middle[:, 3].tolist())


def receptive_field(
    model: str | nn.Module, layer: str | None = None, *, size: tuple[int, int] | None = None, **args: Any
) -> ReceptiveField:
    """Finds which pixels the units of a layer depend on.

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
        """Returns ``change`` of each; of changes that give several tensors, a reach each."""
        sides = [change(side) for side in self]
        if isinstance(sides[0], Tensor):
            return Reach(*sides)
        return [Reach(*parts) for parts in zip(*sides, strict=True)]

    def whole(self) -> list[Tensor]:
        return [side.max() if side.numel() else side.new_tensor(NOTHING) for side in self]


class Reaches(TorchDispatchMode):
    """A context within which :meth:`of` knows the reach of every tensor that was computed of ``image``, 1 C H W."""

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
        reaches = self._follow(func, args, kwargs, tensors, outputs)
        written = func._schema.is_mutable
        for new, reach in zip(outputs, reaches, strict=False):
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
        if packet in FRESH:
            return [_nothing(new) for new in outputs]
        if torch.Tag.pointwise in func.tags or packet in POINTWISE:
            return [self._union(tensors, outputs[0])]
        rule = RULES.get(packet)
        indices = [named.get(name) for name in ("index", "indices")]
        data_dependent = any(
            tensor in self._of and self.of(tensor).down.max() > NOTHING
            for tensor in torch.utils._pytree.tree_leaves(indices)
            if isinstance(tensor, Tensor) and tensor.numel()
        )
        if rule is not None and not data_dependent:
            result = rule(self.of, named, shape)
            if result is not None:
                reaches = result if isinstance(result, list) else [result]
                # Beside values, the places where they were found depend on the same.
                same = [reaches[0] for new in outputs[1:] if isinstance(new, Tensor) and new.shape == shape]
                return reaches if len(reaches) > 1 else [*reaches, *same]
        if packet in MOVING and not data_dependent:
            result = self._move(func, args, kwargs)
            return result if isinstance(result, list) else [result]
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
        """Does the same operation to the reaches of its arguments."""

        def side(number: int) -> Any:
            def swap(value: Any) -> Any:
                is_number = isinstance(value, Tensor) and (value.is_floating_point() or value in self._of)
                return self.of(value)[number] if is_number else value

            moved_args, moved_kwargs = torch.utils._pytree.tree_map(swap, (args, kwargs))
            is_view = func.overloadpacket in VIEWS  # memory may lie otherwise than the tensor's
            return moved_args[0].reshape(moved_args[1]) if is_view else func(*moved_args, **moved_kwargs)

        sides = [side(number) for number in range(4)]
        return Reach(*sides) if isinstance(sides[0], Tensor) else [Reach(*parts) for parts in zip(*sides, strict=True)]


def _nothing(tensor: Tensor) -> Reach:
    return Reach(*(torch.full(tensor.shape, NOTHING, device=tensor.device) for _ in range(4)))
