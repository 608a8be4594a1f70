"""The settings of activation maximisation, and how its parameters become an image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import SpecError
from zoo_look.network import statistics

Parametrisation = Literal["fourier", "pixels"]


@dataclass(frozen=True)
class Ascent:
    """How an image is made to please.

    ``steps`` of Adam with ``rate``. ``parametrisation``: pixels themselves, or their Fourier coefficients, each
    scaled by one over its frequency, so that coarse structure comes as easily as fine. With ``clip`` pixels stay in
    [0, 1], by projection or, of Fourier coefficients, by a sigmoid; without, the network's normalised input is free.
    ``jitter`` moves the image by up to so many pixels, round its edges, before each step; ``blur`` is the standard
    deviation in pixels of a Gaussian that softens the image every ``blur_every`` steps. ``l2`` and ``tv`` weigh what
    is subtracted from the activation: the sum of squares of the normalised input, and its total variation (the sum of
    absolute differences of neighbours). ``radius`` keeps the normalised input within a ball of this L2 norm instead:
    steps then go along the normalised gradient. It needs pixels that are not clipped.
    """

    steps: int = 128
    rate: float = 0.05
    parametrisation: Parametrisation = "fourier"
    clip: bool = True
    jitter: int = 2
    blur: float = 0.0
    blur_every: int = 4
    l2: float = 0.0
    tv: float = 0.0
    radius: float | None = None

    def __post_init__(self) -> None:
        if self.parametrisation not in ("fourier", "pixels"):
            raise SpecError(f"parametrisation = {self.parametrisation!r} is neither 'fourier' nor 'pixels'.")
        if self.steps < 0 or self.jitter < 0 or self.blur < 0 or self.blur_every < 1 or not self.rate > 0:
            raise SpecError("steps, jitter and blur must not be negative, rate and blur_every must be positive.")
        if self.radius is not None and (self.clip or self.parametrisation != "pixels" or self.radius <= 0):
            raise SpecError("radius must be positive, and needs parametrisation='pixels' and clip=False.")


class Canvas:
    """What is optimised, and how it becomes the network's input."""

    def __init__(self, network: nn.Module, image: Tensor, ascent: Ascent) -> None:
        self.shape, self.device, self.ascent = image.shape[1:], image.device, ascent
        self.mean, self.std = (torch.tensor(v, device=image.device)[:, None, None] for v in statistics(network))
        height, width = self.shape[1:]
        rows = torch.fft.fftfreq(height, device=self.device)[:, None]
        frequencies = (rows.square() + torch.fft.rfftfreq(width, device=self.device).square()).sqrt()
        self.scale = math.sqrt(height * width) / frequencies.clamp(min=1 / max(height, width)) / max(height, width)
        self.softening = torch.exp(-2 * (math.pi * ascent.blur * frequencies).square())

    @property
    def is_fourier(self) -> bool:
        return self.ascent.parametrisation == "fourier"

    def start(self, generators: Sequence[torch.Generator]) -> Tensor:
        shape = (*self.shape[:2], self.scale.shape[1], 2) if self.is_fourier else tuple(self.shape)
        noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
        start = (0.01 if self.is_fourier else 0.05) * noise.to(self.device)
        if not self.is_fourier and self.ascent.clip:
            start = (start + 0.5).clamp(0, 1)
        return start.requires_grad_()

    def inputs(self, parameters: Tensor) -> Tensor:
        image = parameters
        if self.is_fourier:
            spectrum = torch.view_as_complex(parameters) * self.scale
            image = torch.fft.irfft2(spectrum, s=self.shape[1:], norm="ortho")
            image = image.sigmoid() if self.ascent.clip else image
        return (image - self.mean) / self.std if self.ascent.clip else image

    def settle(self, parameters: Tensor, softened: bool) -> None:
        if softened and self.is_fourier:
            parameters.mul_(self.softening[..., None])
        elif softened:
            parameters.copy_(gaussian_blur(parameters, self.ascent.blur))
        if self.ascent.clip and not self.is_fourier:
            parameters.clamp_(0, 1)

    def step_within(self, parameters: Tensor, gradient: Tensor, radius: float) -> None:
        parameters += self.ascent.rate * radius * gradient / norms(gradient)
        parameters *= (radius / norms(parameters)).clamp(max=1)


def norms(images: Tensor) -> Tensor:
    """L2 norms of images B C H W, B 1 1 1; not below what can be divided by."""
    lengths: Tensor = images.flatten(1).norm(dim=1).clamp(min=1e-12)
    return lengths[:, None, None, None]


def total_variation(images: Tensor) -> Tensor:
    """The sum over B C H W of absolute differences between neighbours."""
    down = (images[:, :, 1:] - images[:, :, :-1]).abs().sum()
    return down + (images[..., 1:] - images[..., :-1]).abs().sum()


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Images B C H W, softened by a Gaussian of ``sigma`` pixels; beyond the border lies its edge."""
    reach = max(1, math.ceil(3 * sigma))
    weights = torch.exp(-torch.arange(-reach, reach + 1, device=images.device).square() / (2 * sigma**2))
    weights /= weights.sum()
    channels = images.shape[1]
    padded = F.pad(images, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(padded, weights.view(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)
    blurred: Tensor = F.conv2d(rows, weights.view(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels)
    return blurred
