"""The parts of the family's networks: a convolution with ReLU, maps joined."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

Size = int | tuple[int, int]


class ConvUnit(nn.Module):
    """A convolution ``conv``, batch normalisation ``bn`` where there is ``norm``, ReLU.

    ``bias`` is the convolution's: by default without normalisation, which has one of its own.
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
        if isinstance(maps, Tensor) and maps.requires_grad:  # torch.fx traces without
            maps.register_hook(_copied)
    return torch.cat(list(branches), dim=1)


def _copied(gradient: Tensor) -> Tensor:
    is_last = gradient.stride(1) == 1
    return gradient.contiguous(memory_format=torch.channels_last if is_last else torch.contiguous_format)
