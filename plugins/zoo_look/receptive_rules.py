"""Rules for torch's operations: which inputs their outputs depend on; for :mod:`zoo_look.receptive`.

A rule takes a function that knows a tensor's reach, the arguments by name, and the shape of the output.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from zoo_look.receptive import Reach

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
"""Beside those that torch itself marks so."""

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


def _pair(value: Any) -> tuple[int, int]:
    values = [value, value] if isinstance(value, int) else list(value)
    return (values[0], values[-1])


def _windows(reach: "Reach", kernel: Any, stride: Any, padding: Any, dilation: Any, shape: Sequence[int]) -> "Reach":
    """The union over each window; outside the image there is nothing. ``shape`` says how many windows there are."""
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

    found: Reach = reach.map(slide)
    return found


def _convolution(of: Of, named: Named, shape: Sequence[int]) -> "Reach | None":
    if named["transposed"] or len(shape) != 4 or of(named["weight"]).down.max() > NOTHING:
        return None
    groups, kernel = named["groups"], named["weight"].shape[2:]
    # B C H W -> B groups H W, since every channel of a group sees all of the group
    joined = of(named["input"]).map(lambda side: side.reshape(len(side), groups, -1, *side.shape[2:]).amax(2))
    seen = _windows(joined, kernel, named["stride"], named["padding"], named["dilation"], shape)
    found: Reach = seen.map(lambda side: side.repeat_interleave(shape[1] // groups, dim=1))
    return found


def _pool(of: Of, named: Named, shape: Sequence[int]) -> "Reach":
    stride, dilation = named.get("stride", ()), named.get("dilation", 1)
    return _windows(of(named["self"]), named["kernel_size"], stride, named.get("padding", 0), dilation, shape)


def _pool3d(of: Of, named: Named, shape: Sequence[int]) -> Any:
    """B C D H W, as response normalisation over neighbouring maps pools."""
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
    """Every element sees all along a dimension, which stays (softmax) or keeps its first (top k)."""
    tensor, dim = named["self"], named.get("dim", -1)
    return of(tensor).map(lambda side: side.amax(dim, keepdim=True).expand(shape).contiguous())


def _matrix(of: Of, named: Named, shape: Sequence[int]) -> Any:
    """``mat1`` n k times ``mat2`` k m, and what is added."""
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
    """``F.unfold``: B C H W to B (C kernel) L."""
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
