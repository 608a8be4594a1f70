"""Activation maximisation: images that maximise a channel, a unit or a class.

Gradient ascent on the input: Erhan et al., "Visualizing higher-layer features of a deep network", 2009; on class
logits with an L2 penalty, Simonyan et al. 2013 (arXiv:1312.6034); with blur, Yosinski et al. 2015 (arXiv:1506.06579);
jitter and the Fourier parametrisation, Olah et al., "Feature visualization", 2017.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.errors import SpecError, WeightsError
from zoo_look.ascent import Ascent, Canvas, Parametrisation, total_variation
from zoo_look.maps import show
from zoo_look.network import as_pixels, blank, name_of, opened, titles_of
from zoo_look.rectifiers import Rectifiers
from zoo_look.result import Look, new_figure
from zoo_look.top_patches import Progress
from zoo_look.units import Run, check_channel, check_position, maps_of, reached

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Maxima(Look):
    """For each of U channels the image found: ``images`` float32 U C H W in [0, 1], as they look.

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
        figure = new_figure(max(1.1 * columns, 3.0), 1.25 * rows + 0.5, self.caption)
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
    steps: int = 40,
    rate: float = 0.05,
    parametrisation: Parametrisation = "fourier",
    clip: bool = True,
    jitter: int = 2,
    blur: float = 0.0,
    blur_every: int = 4,
    l2: float = 0.0,
    tv: float = 0.003,
    radius: float | None = None,
    **args: Any,
) -> Maxima:
    """Images that maximise channels of a layer: the mean of the map, or one unit of it.

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
        steps: Steps of Adam.
        rate: Adam learning rate.
        parametrisation: ``fourier`` optimises Fourier coefficients scaled by one over frequency; ``pixels`` pixels.
        clip: Whether pixels stay in [0, 1].
        jitter: Largest shift in pixels before each step.
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
    ascent = Ascent(steps, rate, parametrisation, clip, jitter, blur, blur_every, l2, tv, radius)
    if restarts < 1:
        raise SpecError(f"restarts = {restarts} is invalid: expected at least 1.")
    with opened(model, **args) as network, reached(network, layer) as run:
        image = blank(network, size)
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
        for part in parts:
            report = _after(progress, steps * len(climbed), steps * len(parts)) if progress is not None else None
            climbed.append(_climb(network, run, layer, image, part, position, seed, ascent, report))
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
        own = maps[torch.arange(len(maps), device=maps.device), channels]  # B h w
        if position is None:
            return own.mean((1, 2))
        row, column = check_position(position, own, layer)
        return own[:, row, column]

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
