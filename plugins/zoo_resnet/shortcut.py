"""The shortcuts of a residual unit (He et al. 2015, section 3.3, options A, B and C)."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

Option = Literal["A", "B", "C", "none"]
ZeroChannels = Literal["end", "split"]


class ZeroPadShortcut(nn.Module):
    """Option A: takes every ``stride``-th pixel and fills the new channels with zeros. No parameters.

    ``zero_channels`` is where the zeros go: ``end`` appends them (fb.resnet.torch), ``split`` puts
    half in front and half behind (akamaster/pytorch_resnet_cifar10). Both have the same parameters,
    but weights trained with one are wrong with the other.
    """

    def __init__(self, in_chans: int, out_chans: int, *, stride: int, zero_channels: ZeroChannels) -> None:
        super().__init__()
        added = out_chans - in_chans
        front = added // 2 if zero_channels == "split" else 0
        self.stride = stride
        self.padding = (0, 0, 0, 0, front, added - front)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]  # B C H W -> B C H/stride W/stride
        return F.pad(x, self.padding)  # B C h w -> B C' h w

    def extra_repr(self) -> str:
        return f"stride={self.stride}, zeros_in_front={self.padding[4]}, zeros_behind={self.padding[5]}"


def make_shortcut(
    option: Option, in_chans: int, out_chans: int, *, stride: int, zero_channels: ZeroChannels
) -> nn.Module | None:
    """The shortcut of one unit, None for a plain network's.

    The identity has no parameters and so no key; a projection has timm's, ``0`` (conv) and ``1`` (BN).
    """
    if option == "none":
        return None
    is_same_shape = in_chans == out_chans and stride == 1
    if is_same_shape and option != "C":
        return nn.Identity()
    if option == "A":
        return ZeroPadShortcut(in_chans, out_chans, stride=stride, zero_channels=zero_channels)
    return nn.Sequential(
        nn.Conv2d(in_chans, out_chans, kernel_size=1, stride=stride, bias=False),
        nn.BatchNorm2d(out_chans),
    )
