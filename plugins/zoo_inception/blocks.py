"""What the family's networks are made of: a convolution with ReLU, response normalisation, a resettable head."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import SpecError

Size = int | tuple[int, int]

_POOLS = {"avg": nn.AdaptiveAvgPool2d, "max": nn.AdaptiveMaxPool2d}


class ConvUnit(nn.Module):
    """A convolution ``conv``, batch normalisation ``bn`` where there is ``norm``, ReLU.

    ``bias`` is the convolution's: by default where there is no normalisation, which has one of its own.
    """

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        kernel_size: Size,
        *,
        stride: Size = 1,
        padding: Size = 0,
        norm: bool = True,
        bias: bool | None = None,
        eps: float = 1e-3,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_chans,
            out_chans,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            bias=not norm if bias is None else bias,
        )
        self.bn = nn.BatchNorm2d(out_chans, eps=eps) if norm else nn.Identity()
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


def concatenate(branches: Sequence[Tensor]) -> Tensor:
    """Maps B C_i h w to B sum(C_i) h w.

    A gradient that is a view of some maps of all is copied to memory of its own: on a CPU, ReLU's and
    batch normalisation's take ten times as long on the view.
    """
    for maps in branches:
        if maps.requires_grad:
            maps.register_hook(_copied)  # type: ignore[no-untyped-call]  # torch's
    return torch.cat(list(branches), dim=1)


def _copied(gradient: Tensor) -> Tensor:
    is_last = gradient.stride(1) == 1
    return gradient.contiguous(memory_format=torch.channels_last if is_last else torch.contiguous_format)


class ResponseNorm(nn.Module):
    """Divides each value by (1 + 1e-4 / 5 * the sum of squares over the five maps around its own) ** 0.75.

    Caffe's layer: the sum is divided by the number of maps. torch's own has no bfloat16 on a CPU and
    takes twice the time; here everything is computed in float32, or in float64 if the maps are.
    """

    maps = 5
    alpha = 1e-4
    beta = 0.75

    def forward(self, x: Tensor) -> Tensor:
        chans, reach = x.shape[1], self.maps // 2
        values = x if x.dtype == torch.float64 else x.float()
        squares = F.pad(values.square(), (0, 0, 0, 0, reach, reach))
        total = squares[:, :chans]
        for shift in range(1, self.maps):
            total = total + squares[:, shift : shift + chans]
        return (values / (1 + self.alpha / self.maps * total) ** self.beta).to(x.dtype)


def global_pool_layer(global_pool: str, num_classes: int) -> nn.Module:
    """B C h w to B C by ``avg`` or ``max``; the empty string, which needs 0 classes, is none.

    Raises :class:`SpecError`.
    """
    if global_pool not in (*_POOLS, ""):
        raise SpecError(f"global_pool = {global_pool!r} is not one of 'avg', 'max', ''.")
    if num_classes and not global_pool:
        raise SpecError(f"A classifier of {num_classes} classes needs a global pool: 'avg' or 'max'.")
    if not global_pool:
        return nn.Identity()
    return nn.Sequential(_POOLS[global_pool](1), nn.Flatten(1))
