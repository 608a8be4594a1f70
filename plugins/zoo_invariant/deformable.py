"""Deformable convolutions: filters whose taps move, by what they see.

Dai, Qi, Xiong, Li, Zhang, Hu, Wei 2017, "Deformable Convolutional Networks" (ICCV), section 2.1.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import SpecError
from zoo_invariant.network import Network, PreciseConv2d, full_precision, initialize

FARTHEST = 1e4
"""Pixels that a tap moves at most: far outside any image."""


class DeformConv2d(nn.Conv2d):
    """A square convolution that samples each tap bilinearly at its place plus an offset, 0 outside the image.

    ``offset``, a convolution of the same kernel, stride, padding and dilation, gives for each place of
    the output and each tap, row by row, (dy, dx) in pixels of the input: 2 k^2 channels. It is zero to
    begin with, when this is a plain convolution. Where taps are is worked out in float32: in bfloat16 an
    offset of 4 pixels would be coarser than 1/64.
    """

    def __init__(self, in_chans: int, out_chans: int, kernel_size: int, *, stride: int = 1, padding: int = 0) -> None:
        super().__init__(in_chans, out_chans, kernel_size, stride=stride, padding=padding, bias=False)
        self.offset = PreciseConv2d(in_chans, 2 * kernel_size**2, kernel_size, stride=stride, padding=padding)
        self.reset_offset()

    def reset_offset(self) -> None:
        """Sets the offsets to 0: no tap moves."""
        nn.init.zeros_(self.offset.weight)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.padding, tuple)
        return deformed(x, self.weight, self.offset(x), self.stride[0], self.padding[0])


@torch.fx.wrap  # a tracer knows neither type nor device
def deformed(x: Tensor, weight: Tensor, offset: Tensor, stride: int, padding: int) -> Tensor:
    """Computes :class:`DeformConv2d`.

    The taps are gathered and then multiplied, with the same result as torchvision's ``deform_conv2d``, whose CPU
    kernel takes ten times as long to train.
    """
    with full_precision(x):
        within = offset.clamp(-FARTHEST, FARTHEST).nan_to_num()
        taps = sampled(x.to(offset.dtype), within, weight.shape[-1], stride, padding)
        out: Tensor = (weight.to(offset.dtype).flatten(1) @ taps).unflatten(2, offset.shape[2:])
        # 0, or not a number where an offset is none: that must not go unseen.
        return (out + offset.detach().mul(0).sum(dim=1, keepdim=True)).to(x.dtype)


def sampled(x: Tensor, offset: Tensor, kernel_size: int, stride: int, padding: int) -> Tensor:
    """Samples images (B, C, H, W) at the taps of a square convolution plus ``offset``.

    Returns (B, C k^2, places): for each channel its taps, row by row.
    """
    rows, columns = offset.shape[2:]
    tap = torch.arange(kernel_size, device=x.device)
    place = torch.arange(max(rows, columns), device=x.device) * stride - padding
    moved = offset.unflatten(1, (kernel_size**2, 2))
    down = moved[:, :, 0] + (tap.repeat_interleave(kernel_size)[:, None, None] + place[:rows, None])
    across = moved[:, :, 1] + (tap.repeat(kernel_size)[:, None, None] + place[:columns])
    size = torch.tensor([x.shape[3], x.shape[2]], device=x.device)
    grid = (2 * torch.stack((across, down), dim=-1) + 1) / size - 1
    values = F.grid_sample(x, grid.flatten(1, 2), mode="bilinear", padding_mode="zeros", align_corners=False)
    taps: Tensor = values.unflatten(2, (kernel_size**2, rows)).flatten(3).flatten(1, 2)
    return taps


def deform_cnn(*, width: int = 16, deformable: int = 2, num_classes: int = 10, in_chans: int = 1) -> Network:
    """Builds four 3x3 convolutions with BN and ReLU, the last ``deformable`` of them deformable (0 to 3), then the
    mean.

    ``width``, 2, 4, 4 times that many maps; each but the first halves their sides. Raises :class:`SpecError`.
    """
    if deformable not in range(4):
        raise SpecError(f"deformable = {deformable} is not 0 to 3: the first convolution stays in its place.")
    widths, strides = (in_chans, width, 2 * width, 4 * width, 4 * width), (1, 2, 2, 2)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, stride in enumerate(strides, start=1):
        before, after = widths[number - 1 : number + 1]
        layers[f"conv{number}"] = (
            DeformConv2d(before, after, 3, stride=stride, padding=1)
            if number > len(strides) - deformable
            else nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        )
        layers[f"bn{number}"] = nn.BatchNorm2d(after)
        layers[f"act{number}"] = nn.ReLU()
    stages = [
        (f"features.act{number}", widths[number], reduction) for number, reduction in ((1, 1), (2, 2), (3, 4), (4, 8))
    ]
    network = Network(nn.Sequential(layers), stages, num_classes=num_classes, pooled=1)
    initialize(network)
    for module in network.modules():
        if isinstance(module, DeformConv2d):
            module.reset_offset()
    return network
