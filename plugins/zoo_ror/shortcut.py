"""Shortcuts of every level (He et al. 2015, section 3.3, options A, B and C; Huang et al. 2016)."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

Option = Literal["A", "A_avg", "B", "C"]


class PaddedShortcut(nn.Module):
    """Option A: a smaller map with zero channels appended. No parameters.

    Smaller by taking every ``stride``-th pixel, or by the mean of each ``stride`` x ``stride`` where
    ``averages`` (``A_avg``, of the authors of stochastic depth).
    """

    def __init__(self, in_chans: int, out_chans: int, *, stride: int, averages: bool) -> None:
        super().__init__()
        self.shrink = nn.AvgPool2d(stride) if averages else nn.MaxPool2d(1, stride)
        self.added = out_chans - in_chans

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(self.shrink(x), (0, 0, 0, 0, 0, self.added))  # B C h w -> B C' h w


def make_shortcut(option: Option, in_chans: int, out_chans: int, *, stride: int, norm: bool) -> nn.Module:
    """The shortcut from ``in_chans`` to ``out_chans``.

    Where the shape stays it is the identity, save with option C; where it changes, A pads and B and C
    project, with batch normalisation behind where ``norm``.
    """
    if in_chans == out_chans and stride == 1 and option != "C":
        return nn.Identity()
    if option in ("A", "A_avg"):
        return PaddedShortcut(in_chans, out_chans, stride=stride, averages=option == "A_avg")
    projection = nn.Conv2d(in_chans, out_chans, kernel_size=1, stride=stride, bias=False)
    return nn.Sequential(projection, nn.BatchNorm2d(out_chans)) if norm else projection
