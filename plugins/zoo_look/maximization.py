"""Activation maximization: images that maximize a channel, a unit or a class.

Gradient ascent on the input: Erhan et al., "Visualizing higher-layer features of a deep network", 2009; on class
logits with an L2 penalty, Simonyan et al. 2013 (arXiv:1312.6034); with blur, Yosinski et al. 2015 (arXiv:1506.06579);
jitter, the Fourier parametrization, decorrelated colours and transformations, Olah et al., "Feature visualization",
2017.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import SpecError, WeightsError
from zoo_look.maps import show
from zoo_look.network import (
    Rectifiers,
    Run,
    as_pixels,
    blank,
    check_channel,
    check_position,
    maps_of,
    name_of,
    opened,
    reached,
    statistics,
    titles_of,
)
from zoo_look.result import Look, new_figure
from zoo_look.top_patches import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Parametrisation = Literal["fourier", "pixels"]


_TURNS: dict[str, Any] = {"rotate": 10.0, "zoom": 0.1}
_SMALL: dict[str, Any] = {"steps": 128, "rate": 0.05, "jitter": 2, "blur": 0.0, "tv": 0.003, **_TURNS}
_LARGE: dict[str, Any] = {"steps": 150, "rate": 0.015, "jitter": 12, "blur": 0.3, "tv": 0.0001, **_TURNS}


def usual(height: int, width: int) -> dict[str, Any]:
    """Returns settings that suit images of this size: above 64 pixels, the others paint areas of full colours."""
    return _SMALL if max(height, width) <= 64 else _LARGE


@dataclass(frozen=True)
class Ascent:
    """The settings by which an image is made to please.

    ``steps`` of Adam with ``rate``. ``parametrisation``: pixels themselves, or their Fourier coefficients, each
    scaled by one over its frequency, so that coarse structure comes as easily as fine. ``decorrelate`` mixes the
    coefficients of three channels to colours that correlate as those of photographs do. With ``clip`` pixels stay in
    [0, 1], by projection or, of Fourier coefficients, by a sigmoid; without, the network's normalised input is free.
    Before each step, ``jitter`` moves the image by up to so many pixels, round its edges, and the image is turned by
    up to ``rotate`` degrees and scaled by up to the share ``zoom``; ``blur`` is the standard
    deviation in pixels of a Gaussian that softens the image every ``blur_every`` steps. ``l2`` and ``tv`` weigh what
    is subtracted from the activation: the sum of squares of the normalised input, and its total variation (the sum of
    absolute differences of neighbours). ``radius`` keeps the normalised input within a ball of this L2 norm instead:
    steps then go along the normalised gradient. It needs pixels that are not clipped.
    """

    steps: int = 128
    rate: float = 0.05
    parametrisation: Parametrisation = "fourier"
    clip: bool = True
    decorrelate: bool = True
    jitter: int = 2
    rotate: float = 0.0
    zoom: float = 0.0
    blur: float = 0.0
    blur_every: int = 4
    l2: float = 0.0
    tv: float = 0.0
    radius: float | None = None

    def __post_init__(self) -> None:
        if self.parametrisation not in ("fourier", "pixels"):
            raise SpecError(f"parametrisation = {self.parametrisation!r} is neither 'fourier' nor 'pixels'.")
        if min(self.steps, self.jitter, self.blur, self.rotate) < 0 or self.blur_every < 1 or not self.rate > 0:
            raise SpecError("steps, jitter, rotate and blur must not be negative, rate, blur_every must be positive.")
        if not 0 <= self.zoom < 1:
            raise SpecError(f"zoom = {self.zoom} is invalid: expected a share from 0 to below 1.")
        if self.radius is not None and (self.clip or self.parametrisation != "pixels" or self.radius <= 0):
            raise SpecError("radius must be positive, and needs parametrisation='pixels' and clip=False.")


_PHOTOGRAPHS = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]])
"""A root of the covariance of red, green and blue in ImageNet's photographs, as Olah et al. use it."""
COLORS = _PHOTOGRAPHS / _PHOTOGRAPHS.norm(dim=0).max()
"""Red, green and blue by three channels that do not correlate: brightness, and two differences of colours."""


class Canvas:
    """The parameters that are optimized, and how they become the network's input."""

    def __init__(self, network: nn.Module, image: Tensor, ascent: Ascent) -> None:
        self.shape, self.device, self.ascent = image.shape[1:], image.device, ascent
        self.mean, self.std = (torch.tensor(v, device=image.device)[:, None, None] for v in statistics(network))
        height, width = self.shape[1:]
        rows = torch.fft.fftfreq(height, device=self.device)[:, None]
        frequencies = (rows.square() + torch.fft.rfftfreq(width, device=self.device).square()).sqrt()
        self.scale = math.sqrt(height * width) / frequencies.clamp(min=1 / max(height, width)) / max(height, width)
        is_mixed = ascent.decorrelate and self.is_fourier and self.shape[0] == 3
        self.colors = COLORS.to(self.device) if is_mixed else None
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
            if self.colors is not None:
                image = torch.einsum("ck,bkhw->bchw", self.colors, image)
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


def transformed(images: Tensor, ascent: Ascent, generator: torch.Generator) -> Tensor:
    """Returns images B C H W turned and scaled, all alike, by what is drawn; beyond the border they are mirrored."""
    if not (ascent.rotate or ascent.zoom):
        return images
    turn, size = (2 * torch.rand(2, generator=generator) - 1).tolist()
    angle, zoom = math.radians(ascent.rotate * turn), 1 + ascent.zoom * size
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    theta = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]], device=images.device).expand(len(images), 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def norms(images: Tensor) -> Tensor:
    """Returns L2 norms of images B C H W, B 1 1 1; not below what can be divided by."""
    lengths: Tensor = images.flatten(1).norm(dim=1).clamp(min=1e-12)
    return lengths[:, None, None, None]


def total_variation(images: Tensor) -> Tensor:
    """Returns the sum over B C H W of absolute differences between neighbours."""
    down = (images[:, :, 1:] - images[:, :, :-1]).abs().sum()
    return down + (images[..., 1:] - images[..., :-1]).abs().sum()


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Softens images B C H W by a Gaussian of ``sigma`` pixels; beyond the border lies its edge."""
    reach = max(1, math.ceil(3 * sigma))
    weights = torch.exp(-torch.arange(-reach, reach + 1, device=images.device).square() / (2 * sigma**2))
    weights /= weights.sum()
    channels = images.shape[1]
    padded = F.pad(images, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(padded, weights.view(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)
    blurred: Tensor = F.conv2d(rows, weights.view(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels)
    return blurred


@dataclass(frozen=True, eq=False)
class Maxima(Look):
    """The image found for each of U channels: ``images`` float32 U C H W in [0, 1], as they look.

    ``titles`` are the classes if these have names, else the channels' numbers. ``inputs`` float32 U C H W are the
    images as the network takes them. ``values`` U are the objective's, without jitter: the activation before its
    ReLU, a mean over the map unless a position was named. ``restarts`` U R are those of every start, ``noise`` U R
    what they were before the first step.
    """

    layer: str
    channels: tuple[int, ...]
    titles: tuple[str, ...]
    position: tuple[int, int] | None
    seed: int
    ascent: Ascent
    values: Tensor
    restarts: Tensor
    noise: Tensor
    images: Tensor
    inputs: Tensor

    def facts(self) -> dict[str, Any]:
        rows = zip(
            self.channels, self.titles, self.values.tolist(), self.restarts.tolist(), self.noise.tolist(), strict=True
        )
        return {
            "layer": self.layer,
            "position": list(self.position) if self.position else None,
            "seed": self.seed,
            **vars(self.ascent),
            "channels": [
                {"channel": channel, "title": title, "value": value, "restarts": restarts, "noise": noise}
                for channel, title, value, restarts, noise in rows
            ],
        }

    def figure(self) -> "Figure":
        columns = min(len(self.channels), 8)
        rows = math.ceil(len(self.channels) / columns)
        side = 1.1 if self.images.shape[-1] <= 64 else 1.8
        figure = new_figure(max(side * columns, 3.0), (side + 0.15) * rows + 0.5, self.caption)
        axes = figure.subplots(rows, columns, squeeze=False)
        for axis in axes.flat:
            axis.set_axis_off()
        for axis, title, image in zip(axes.flat, self.titles, self.images, strict=False):
            show(axis, image)
            axis.set_title(title, fontsize=7, pad=2)
        return figure


def maximize(
    model: str | nn.Module,
    layer: str = "",
    channels: int | Sequence[int] | None = None,
    *,
    position: tuple[int, int] | None = None,
    size: tuple[int, int] | None = None,
    restarts: int = 1,
    seed: int = 0,
    batch_size: int = 64,
    progress: Progress | None = None,
    steps: int | None = None,
    rate: float | None = None,
    parametrisation: Parametrisation = "fourier",
    clip: bool = True,
    decorrelate: bool = True,
    jitter: int | None = None,
    rotate: float | None = None,
    zoom: float | None = None,
    blur: float | None = None,
    blur_every: int = 4,
    l2: float = 0.0,
    tv: float | None = None,
    radius: float | None = None,
    **args: Any,
) -> Maxima:
    """Makes images that maximize channels of a layer: the mean of the map, or one unit of it.

    The output of a ReLU is maximised before that ReLU, which would hide the direction. A start depends only on
    ``seed``, its channel and its number.

    Args:
        model: A name, for which trained weights are used, or a network that :func:`zoo.create` returned.
        layer: The layer's name. By default the logits, whose channels are classes.
        channels: The channels. By default the first ten.
        position: The unit's (row, column). By default the mean of the map.
        size: Height and width of the image. By default those of the network's input.
        restarts: How many starts from noise; the best result is returned.
        seed: Decides the noise.
        batch_size: Images per forward and backward pass.
        progress: Called with (steps done, steps in all).
        steps: Steps of Adam. This, ``rate``, ``jitter``, ``rotate``, ``zoom``, ``blur`` and ``tv`` are by default
            those of :func:`usual`; an image for one unit is not turned or scaled, or the unit would look elsewhere.
        rate: Adam learning rate.
        parametrisation: ``fourier`` optimises Fourier coefficients scaled by one over frequency; ``pixels`` pixels.
        clip: Whether pixels stay in [0, 1].
        decorrelate: Whether Fourier coefficients of three channels are mixed to colours as in photographs.
        jitter: Largest shift in pixels before each step.
        rotate: Largest turn before each step, in degrees.
        zoom: Largest change of size before each step, as a share.
        blur: Standard deviation in pixels of a Gaussian blur.
        blur_every: Steps between two blurs.
        l2: Weight of the sum of squares of the normalised input, which is subtracted.
        tv: Weight of its total variation, which is subtracted.
        radius: L2 norm of a ball that the normalised input stays in. Needs ``clip=False`` and ``pixels``.
        args: ``device``, and, if ``model`` is a name, ``weights`` and arguments of the family's build function.

    Returns:
        An image and its activation for each channel, with a figure.

    Raises:
        UnknownNameError: There is no such layer or channel.
        SpecError: A setting is not possible.

    Example:
        >>> import zoo
        >>> zoo.look.maximize("resnet20.digits", channels=[3, 8], steps=2).images.shape
        torch.Size([2, 1, 8, 8])
    """
    asked = {"steps": steps, "rate": rate, "jitter": jitter, "blur": blur, "tv": tv, "rotate": rotate, "zoom": zoom}
    if restarts < 1:
        raise SpecError(f"restarts = {restarts} is invalid: expected at least 1.")
    with opened(model, **args) as network, reached(network, layer) as run:
        image = blank(network, size)
        settings = {**usual(*image.shape[2:])}
        if position is not None or radius is not None:
            settings |= {"rotate": 0.0, "zoom": 0.0}
        settings |= {name: value for name, value in asked.items() if value is not None}
        settings |= {"parametrisation": parametrisation, "decorrelate": decorrelate, "clip": clip}
        ascent = Ascent(**settings, blur_every=blur_every, l2=l2, radius=radius)
        with torch.no_grad():
            count = maps_of(run(image), layer).shape[1]
        chosen = range(min(10, count)) if channels is None else [channels] if isinstance(channels, int) else channels
        wanted = list(chosen)
        titles = titles_of(network, layer, count)
        for channel in wanted:
            check_channel(channel, count, layer)
        starts = [(channel, number) for channel in wanted for number in range(restarts)]
        parts = [starts[first : first + batch_size] for first in range(0, len(starts), batch_size)]
        climbed: list[tuple[Tensor, Tensor, Tensor]] = []
        for group in parts:
            report = None
            if progress is not None:
                report = _after(progress, ascent.steps * len(climbed), ascent.steps * len(parts))
            climbed.append(_climb(network, run, layer, image, group, position, seed, ascent, report))
    inputs, values, noise = (torch.cat(found) for found in zip(*climbed, strict=True))
    values, noise = values.view(len(wanted), restarts), noise.view(len(wanted), restarts)
    best = values.argmax(1)
    kept = inputs.view(len(wanted), restarts, *inputs.shape[1:])[torch.arange(len(wanted)), best]
    return Maxima(
        f"{name_of(network)}, {layer or 'logits'}: images that maximise a channel",
        layer,
        tuple(wanted),
        tuple(titles[channel] for channel in wanted),
        position,
        seed,
        ascent,
        values.amax(1),
        values,
        noise,
        as_pixels(network, kept),
        kept,
    )


def _after(progress: Progress, earlier: int, total: int) -> Callable[[int], None]:
    return lambda done: progress(earlier + done, total)


def _climb(
    network: nn.Module,
    run: Run,
    layer: str,
    image: Tensor,
    starts: Sequence[tuple[int, int]],
    position: tuple[int, int] | None,
    seed: int,
    ascent: Ascent,
    report: Callable[[int], None] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs B C H W, their values B, and the values B of the noise that they started from; on the CPU."""
    channels = torch.tensor([channel for channel, _ in starts], device=image.device)
    canvas = Canvas(network, image, ascent)

    def values(inputs: Tensor) -> Tensor:
        with Rectifiers() as seen:
            output = run(inputs)
        maps = maps_of(seen.before(output), layer)
        driven = maps[torch.arange(len(maps), device=maps.device), channels]  # B h w
        if position is None:
            return driven.mean((1, 2))
        row, column = check_position(position, driven, layer)
        return driven[:, row, column]

    moves = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False), torch.enable_grad():
        parameters = canvas.start([_generator(seed, channel, number) for channel, number in starts])
        optimizer = torch.optim.Adam([parameters], lr=ascent.rate)
        with torch.no_grad():
            noise = values(canvas.inputs(parameters))
        for step in range(ascent.steps):
            inputs = canvas.inputs(parameters)
            down, right = torch.randint(-ascent.jitter, ascent.jitter + 1, (2,), generator=moves).tolist()
            moved = inputs.roll((down, right), (2, 3)) if down or right else inputs.clone()
            moved = transformed(moved, ascent, moves)
            gain = values(moved).sum() - ascent.l2 * inputs.square().sum() - ascent.tv * total_variation(inputs)
            if not gain.requires_grad:
                raise WeightsError(f"There is no gradient from {layer or 'the logits'} to the image.")
            (gradient,) = torch.autograd.grad(gain, parameters)
            with torch.no_grad():
                if ascent.radius is not None:
                    canvas.step_within(parameters, gradient, ascent.radius)
                else:
                    parameters.grad = -gradient
                    optimizer.step()
                canvas.settle(parameters, softened=ascent.blur > 0 and (step + 1) % ascent.blur_every == 0)
            if report is not None:
                report(step + 1)
        with torch.no_grad():
            inputs = canvas.inputs(parameters)
            return inputs.detach().float().cpu(), values(inputs).cpu(), noise.cpu()


def _generator(seed: int, channel: int, number: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 1_000_003 + channel) * 1_000_003 + number)
