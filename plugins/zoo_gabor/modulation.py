"""Convolutions whose filters are modulated by a bank of Gabor filters: Gabor orientation filters (GoF).

Luan, Zhang, Chen, Cao, Han, Liu 2017, "Gabor Convolutional Networks", sections 3.1 and 3.2, and the
authors' code (bczhangbczhang/Gabor-Convolutional-Networks, jxgu1016/Gabor_CNN_PyTorch).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import SpecError


def modulators(orientations: int, scale: int, kernel_size: int) -> Tensor:
    """Returns the bank of one layer, float64 ``orientations kernel_size kernel_size``, in [0, 1].

    Orientation u waves along u pi / ``orientations`` with wave number k = (pi / 2) / sqrt(2)^(scale - 1)
    per pixel (a wavelength of 4 pixels at scale 1, sqrt(2) times that at each further one)::

        k^2 / s^2 exp(-k^2 (x^2 + y^2) / (2 s^2)) (cos(k (x cos t + y sin t)) - exp(-s^2 / 2)),  s = pi

    the real part alone, each orientation then brought to [0, 1] by its own minimum and maximum. Kernels
    of one pixel have nothing to modulate: all ones. Raises :class:`SpecError` for numbers below 1.
    """
    for name, value in (("orientations", orientations), ("scale", scale), ("kernel_size", kernel_size)):
        if not isinstance(value, int) or value < 1:
            raise SpecError(f"{name} = {value!r}: expected a whole number from 1 on.")
    if kernel_size == 1:
        return torch.ones(orientations, 1, 1, dtype=torch.float64)
    k, s = math.pi / 2 / math.sqrt(2) ** (scale - 1), math.pi
    offset = torch.arange(kernel_size, dtype=torch.float64) - (kernel_size - 1) / 2
    y, x = torch.meshgrid(offset, offset, indexing="ij")
    theta = torch.arange(orientations, dtype=torch.float64).mul(math.pi / orientations).view(-1, 1, 1)
    wave = torch.cos(k * (x * theta.cos() + y * theta.sin())) - math.exp(-(s**2) / 2)
    real = k**2 / s**2 * torch.exp(-(k**2) * (x**2 + y**2) / (2 * s**2)) * wave  # U k k
    low, high = real.amin((1, 2), keepdim=True), real.amax((1, 2), keepdim=True)
    return (real - low) / (high - low)


class GConv(nn.Module):
    """Convolution of maps that have ``orientations`` channels each: channel = map * orientations + orientation.

    Learns ``out_maps`` filters and applies each in as many copies as there are orientations, copy u
    multiplied by modulator u pixel by pixel, the same over all input channels: those are not rotated.
    Input B in_maps*U H W, output B out_maps*U h w.

    ``first``: the input is an image, B in_maps H W, each channel of which stands for U equal ones.

    ``weight`` is out_maps in_maps U*k k, the U kernels k k of a pair of maps one below the other: the four
    axes that memory layouts and the adaptation of stems know. The bank follows from the arguments and is
    not part of the state.
    """

    bank: Tensor

    def __init__(
        self,
        in_maps: int,
        out_maps: int,
        kernel_size: int,
        *,
        orientations: int,
        scale: int,
        stride: int = 1,
        padding: int = 0,
        first: bool = False,
    ) -> None:
        super().__init__()
        self.orientations = orientations
        self.scale = scale
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.first = first
        bank = modulators(orientations, scale, kernel_size)
        self.register_buffer("bank", bank.to(torch.get_default_dtype()), persistent=False)
        self.weight = nn.Parameter(torch.empty(out_maps, in_maps, orientations * kernel_size, kernel_size))
        self.reset_parameters()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "GConv":
        """Moves the tensors, and computes the bank anew where they become float64, whose digits float32 has not."""
        before = self.bank.dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's own is not typed
        if self.bank.dtype == torch.float64 != before:
            self.bank = modulators(self.orientations, self.scale, self.kernel_size).to(self.bank.device)
        return self

    def reset_parameters(self) -> None:
        """Draws He's normal weights by the fan of the output, which all orientations share."""
        fan_out = self.kernel_size**2 * self.weight.shape[0] * self.orientations
        nn.init.normal_(self.weight, std=math.sqrt(2 / fan_out))

    def filters(self) -> Tensor:
        """Returns the filters that convolve: out_maps*U in_maps*U k k, or out_maps*U in_maps k k of a first layer."""
        out_maps, in_maps = self.weight.shape[:2]
        size = self.kernel_size
        weight = self.weight.view(out_maps, in_maps, self.orientations, size, size)  # O I U*k k -> O I U k k
        if self.first:
            weight = weight.sum(2, keepdim=True)  # what the filters of equal channels amount to
        modulated = weight.unsqueeze(1) * self.bank[:, None, None]  # O 1 I U k k, U 1 1 k k -> O U I U k k
        return modulated.reshape(out_maps * self.orientations, -1, size, size)  # O U I U k k -> OU IU k k

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.filters(), stride=self.stride, padding=self.padding)

    def extra_repr(self) -> str:
        out_maps, in_maps = self.weight.shape[:2]
        return (
            f"{in_maps}, {out_maps}, kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"orientations={self.orientations}, scale={self.scale}, first={self.first}"
        )
