"""Residual units: the final level of shortcuts.

Zhang et al. 2016, "Residual Networks of Residual Networks", figures 2 and 3; of the second kind
Zagoruyko, Komodakis 2016, "Wide Residual Networks", figure 1.
"""

from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn

from zoo.modules import make_shortcut
from zoo_ror.depth import DrawnPer, StochasticDepth

Option = Literal["A", "A_avg", "B", "C"]


class PostActUnit(nn.Module):
    """Convolution, BN, ReLU, convolution, BN, plus shortcut, ReLU.

    The last unit of a level does not ``activate``: the addition of the level's shortcut comes first.
    """

    def __init__(
        self,
        in_chans: int,
        width: int,
        *,
        stride: int,
        shortcut: Option,
        survival: float,
        drawn_per: DrawnPer,
        drop_rate: float,
        activate: bool,
    ) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            OrderedDict(
                conv1=_conv3x3(in_chans, width, stride=stride),
                bn1=nn.BatchNorm2d(width),
                act1=nn.ReLU(),
                drop=nn.Dropout(drop_rate),
                conv2=_conv3x3(width, width),
                bn2=nn.BatchNorm2d(width),
            )
        )
        self.shortcut = make_shortcut(shortcut, in_chans, width, stride=stride, norm=True)
        self.depth = StochasticDepth(survival, drawn_per)
        self.act = nn.ReLU() if activate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.depth(self.shortcut(x), self.branch, x))
        return out


class PreActUnit(nn.Module):
    """BN, ReLU, convolution, BN, ReLU, convolution, plus shortcut; nothing after the addition.

    Where a projection stands beside, the first BN and ReLU, ``before``, belong to both branches.
    """

    def __init__(
        self,
        in_chans: int,
        width: int,
        *,
        stride: int,
        shortcut: Option,
        survival: float,
        drawn_per: DrawnPer,
        drop_rate: float,
        activate: bool,
    ) -> None:
        super().__init__()
        self.shortcut = make_shortcut(shortcut, in_chans, width, stride=stride, norm=False)
        opening: OrderedDict[str, nn.Module] = OrderedDict(bn1=nn.BatchNorm2d(in_chans), act1=nn.ReLU())
        convolutions: OrderedDict[str, nn.Module] = OrderedDict(
            conv1=_conv3x3(in_chans, width, stride=stride),
            bn2=nn.BatchNorm2d(width),
            act2=nn.ReLU(),
            drop=nn.Dropout(drop_rate),
            conv2=_conv3x3(width, width),
        )
        is_shared = isinstance(self.shortcut, nn.Conv2d)
        self.before = nn.Sequential(opening) if is_shared else nn.Identity()
        self.branch = nn.Sequential(convolutions if is_shared else opening | convolutions)
        self.depth = StochasticDepth(survival, drawn_per)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        out: Tensor = self.depth(self.shortcut(x), self.branch, x)
        return out


def _conv3x3(in_chans: int, out_chans: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_chans, out_chans, kernel_size=3, stride=stride, padding=1, bias=False)
