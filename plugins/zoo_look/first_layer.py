"""The first layer: its filters as images, with the nearest Gabor filters by least squares.

Of a Gabor filter's parameters, amplitude and phase enter linearly, as the weights of an even and an odd wave, and are
solved for exactly; the six others are searched (variable projection: Golub, Pereyra 1973), from the best of a grid of
starts, by damped Gauss-Newton steps (Levenberg, Marquardt).
"""

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zoo.errors import SpecError
from zoo.modules.gabor import pixels, rotated
from zoo_look.network import blank, name_of, opened
from zoo_look.result import Look, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


PARAMETERS = 8
"""Numbers of one Gabor filter: a kernel of about as many pixels is fitted by nearly any."""

_TOGETHER = 32
"""Filters fitted at once: more takes memory and no less time."""

_GAMMA = (0.2, 2.0)
"""Bounds of the Gaussian's width over its length."""


# ---- The nearest Gabor filter ----------------------------------------------------------------------------------------


class Fit(NamedTuple):
    """The Gabor filters nearest to N given ones: each field a tensor N, float64.

    ``orientation`` lies in 0 to pi, ``phase`` in -pi to pi, ``x`` and ``y`` are the Gaussian's centre in pixels
    from the kernel's; wavelength and sigma are in pixels. ``amplitude`` is what the filter of
    :func:`zoo.modules.gabor.gabor` is multiplied by. ``error`` is the norm of the residual over the norm of the filter.
    """

    wavelength: Tensor
    orientation: Tensor
    phase: Tensor
    sigma: Tensor
    gamma: Tensor
    x: Tensor
    y: Tensor
    amplitude: Tensor
    error: Tensor

    def render(self, height: int, width: int) -> Tensor:
        """Returns the fitted filters, float64 N ``height width``."""
        x, y = pixels(height, width)
        shape = (-1, 1, 1)
        place = (x - self.x.view(shape), y - self.y.view(shape))
        along, across = rotated(place, self.orientation.view(shape))
        spread = (along**2 + (self.gamma.view(shape) * across) ** 2) / (2 * self.sigma.view(shape) ** 2)
        wave = torch.cos(2 * math.pi * along / self.wavelength.view(shape) + self.phase.view(shape))
        return self.amplitude.view(shape) * torch.exp(-spread) * wave


def fit(filters: Tensor, *, starts: int = 8, steps: int = 60) -> Fit:
    """Returns the best-fitting Gabor filter for each of ``filters``, N H W.

    Bounds: wavelengths from 2 pixels, the shortest there is, to 4 kernels, sigma from 0.4 pixels to 2 kernels,
    gamma from 0.2 to 2, the centre within the kernel. ``starts`` of a grid that covers them are refined by
    ``steps`` each. No constant is fitted: a Gabor filter has none. A filter of zeros has the error 0.

    Raises :class:`SpecError` for anything but finite N H W.
    """
    if filters.ndim != 3 or not filters.isfinite().all():
        raise SpecError(f"Filters of shape {tuple(filters.shape)}: expected finite N H W.")
    if len(filters) > _TOGETHER:
        parts = [fit(part, starts=starts, steps=steps) for part in torch.split(filters, _TOGETHER)]
        return Fit(*(torch.cat(values) for values in zip(*parts, strict=True)))
    height, width = filters.shape[1:]
    problem = _Problem(height, width)
    targets = filters.detach().double().cpu().flatten(1)  # N H W -> N HW
    norms = targets.norm(dim=1, keepdim=True)
    targets = targets / norms.clamp_min(torch.finfo(torch.float64).tiny)

    grid = problem.grid()
    chosen = _explained(problem.basis(grid), targets).topk(starts, dim=1).indices  # N starts
    repeated = targets.repeat_interleave(starts, 0)
    points = _descend(problem, grid[chosen].flatten(0, 1), repeated, steps)
    left = problem.residual(points, repeated).square().sum(1).view(chosen.shape)
    points = points.view(*chosen.shape, -1)[torch.arange(len(filters)), left.argmin(1)]
    return _described(problem, points, targets, norms.squeeze(1))


class _Problem:
    """Filters of one size: what six unbounded numbers mean, and what they leave of a target HW.

    Wavelength, sigma and gamma move on a logarithmic scale between their bounds, the centre on a linear one.
    """

    def __init__(self, height: int, width: int) -> None:
        self.x, self.y = (axis.flatten() for axis in pixels(height, width))
        side = max(height, width)
        low = [math.log(2.0), math.log(0.4), math.log(_GAMMA[0]), -width / 2, -height / 2]
        high = [math.log(4.0 * side), math.log(2.0 * side), math.log(_GAMMA[1]), width / 2, height / 2]
        self.low, self.high = (torch.tensor(bound, dtype=torch.float64) for bound in (low, high))
        self.side = side

    def grid(self) -> Tensor:
        """Starts, G 6, in unbounded numbers."""
        lengths = [2.3 * 2 ** (step / 2) for step in range(16) if 2.3 * 2 ** (step / 2) < 3 * self.side]
        ratios, gammas, shifts = (0.25, 0.5, 1.0), (0.5, 1.0), (-self.side / 5, 0.0, self.side / 5)
        points = []
        for length, ratio, gamma, x, y, turn in product(lengths, ratios, gammas, shifts, shifts, range(8)):
            sigma = min(max(ratio * length, 0.5), 1.5 * self.side)
            points.append([turn * math.pi / 8, math.log(length), math.log(sigma), math.log(gamma), x, y])
        grid = torch.tensor(points, dtype=torch.float64)
        share = (grid[:, 1:] - self.low) / (self.high - self.low)
        return torch.cat([grid[:, :1], share.clamp(0.02, 0.98).logit()], dim=1)

    def meaning(self, points: Tensor) -> tuple[Tensor, ...]:
        """Returns orientation, wavelength, sigma, gamma, x, y of ``points`` M 6, each M."""
        bounded = self.low + (self.high - self.low) * points[:, 1:].sigmoid()
        length, sigma, gamma = bounded[:, :3].exp().unbind(1)
        return (points[:, 0], length, sigma, gamma, *bounded[:, 3:].unbind(1))

    def basis(self, points: Tensor) -> Tensor:
        """Returns the even and the odd waves of ``points`` M 6: M HW 2."""
        orientation, length, sigma, gamma, x, y = (number.unsqueeze(1) for number in self.meaning(points))
        along, across = rotated((self.x - x, self.y - y), orientation)
        envelope = torch.exp(-(along**2 + (gamma * across) ** 2) / (2 * sigma**2))
        angle = 2 * math.pi * along / length
        return torch.stack([envelope * angle.cos(), envelope * angle.sin()], dim=2)

    def residual(self, points: Tensor, targets: Tensor) -> Tensor:
        """Returns what the best amplitude and phase at each of ``points`` M 6 leave of its target: M HW of M HW."""
        basis = self.basis(points)
        return targets - (basis @ _weights(basis, targets.unsqueeze(2))).squeeze(2)

    def slope(self, points: Tensor, targets: Tensor) -> Tensor:
        """Returns the residuals' derivatives by the six numbers, M HW 6, by central differences."""
        step = 1e-5
        shifts = step * torch.eye(6, dtype=points.dtype).unsqueeze(1)  # 6 1 6
        ahead, behind = (
            self.residual((points + shift).flatten(0, 1), targets.repeat(6, 1)) for shift in (shifts, -shifts)
        )
        return ((ahead - behind) / (2 * step)).view(6, *targets.shape).movedim(0, 2)  # 6M HW -> M HW 6


def _weights(bases: Tensor, targets: Tensor) -> Tensor:
    """Returns the least-squares weights M 2 N of ``bases`` M HW 2 for ``targets`` M HW N (or HW N, the same for
    all)."""
    gram = bases.mT @ bases
    # A wave that vanishes on all pixels, such as a sine of 2 pixels, would leave the system singular.
    gram = gram + 1e-10 * gram.diagonal(dim1=1, dim2=2).sum(1).view(-1, 1, 1) * torch.eye(2, dtype=gram.dtype)
    inverse = gram.flip(1, 2) * torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=gram.dtype)
    determinant = gram[:, 0, 0] * gram[:, 1, 1] - gram[:, 0, 1] ** 2
    return (inverse @ (bases.mT @ targets)) / determinant.view(-1, 1, 1)


def _explained(bases: Tensor, targets: Tensor) -> Tensor:
    """Returns the share of ``targets``, N HW of norm 1, that each of ``bases`` G HW 2 explains: N G."""
    return (_weights(bases, targets.T) * (bases.mT @ targets.T)).sum(1).T


def _descend(problem: _Problem, points: Tensor, targets: Tensor, steps: int) -> Tensor:
    """Returns ``points`` M 6 moved so that they leave least of ``targets`` M HW."""
    damping = torch.full((len(points), 1, 1), 1e-2, dtype=torch.float64)
    left = problem.residual(points, targets)
    for _ in range(steps):
        jacobian = problem.slope(points, targets)
        normal = jacobian.mT @ jacobian
        diagonal = torch.diag_embed(normal.diagonal(dim1=1, dim2=2) + 1e-9)
        downhill = jacobian.mT @ left.unsqueeze(2)
        moved = points - torch.linalg.solve(normal + damping * diagonal, downhill).squeeze(2).clamp(-1, 1)
        left_there = problem.residual(moved, targets)
        is_better = (left_there.square().sum(1) < left.square().sum(1)).unsqueeze(1)
        points, left = torch.where(is_better, moved, points), torch.where(is_better, left_there, left)
        damping = torch.where(is_better.unsqueeze(2), damping / 3, damping * 4).clamp(1e-9, 1e9)
    return points


def _described(problem: _Problem, points: Tensor, targets: Tensor, norms: Tensor) -> Fit:
    orientation, length, sigma, gamma, x, y = problem.meaning(points)
    half_turns = torch.floor(orientation / math.pi)
    even, odd = _weights(problem.basis(points), targets.unsqueeze(2)).squeeze(2).unbind(1)
    error = problem.residual(points, targets).norm(dim=1)
    # a cos(w + p) = a cos(p) cos(w) - a sin(p) sin(w)
    phase = torch.atan2(-odd, even)
    # The same wave from the other side: its phase runs the other way.
    phase = torch.where(half_turns.remainder(2) == 1, -phase, phase)
    amplitude = torch.hypot(even, odd) * norms
    return Fit(
        length, orientation - half_turns * math.pi, phase, sigma, gamma, x, y, amplitude, error * (norms > 0).double()
    )


Scaling = Literal["each", "shared"]

_COLUMNS = 16
"""Filters side by side in a figure."""

_NOISE = 32
"""Filters of noise are fitted for comparison, no more than that: large kernels take a second each."""

_SMALLEST = 5
"""Pixels a side of the smallest kernel that is fitted: the nine of 3x3 fit nearly any Gabor filter."""


# ---- The layer -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FirstLayer:
    """The first convolution as it is computed: ``weight`` float32 N C H W, its ``stride`` down and across."""

    weight: Tensor
    stride: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Filters(Look):
    """``weight`` N C H W, each filter's strongest one-colour ``patterns`` N H W and the ``share`` N that they are.

    ``nearest`` are the Gabor filters that fit the patterns best, ``noise`` the errors with which filters of noise
    of the same size are fitted: a kernel of few pixels is fitted by nearly any filter, and only the difference
    to noise says something. Both are None for kernels below 5 x 5, of which the fit says nothing.
    """

    weight: Tensor
    patterns: Tensor
    share: Tensor
    nearest: Fit | None
    noise: Tensor | None
    scaling: Scaling

    def orientations(self, bins: int = 8) -> Tensor:
        """Returns how many filters have their wave's direction in each of ``bins`` equal parts of 0 to pi, int64.

        The first part is centred on 0: upright stripes. Raises :class:`SpecError` for filters that were not fitted.
        """
        if self.nearest is None:
            raise SpecError(
                f"Filters of {_size(self.weight)} have no direction: expected {_SMALLEST}x{_SMALLEST} or more."
            )
        width = math.pi / bins
        index = ((self.nearest.orientation / width + 0.5).floor() % bins).long()
        return index.bincount(minlength=bins)

    def facts(self) -> dict[str, Any]:
        about = {"filters": len(self.weight), "shape": list(self.weight.shape[1:])}
        if self.nearest is None or self.noise is None:
            return about
        fitted = self.nearest
        rows = zip(*(value.tolist() for value in fitted), self.share.tolist(), strict=True)
        names = (*Fit._fields, "one_pattern")
        return {
            **about,
            "median_error": float(fitted.error.median()),
            "median_error_of_noise": float(self.noise.median()),
            "parameters_of_a_gabor_filter": PARAMETERS,
            "orientations": self.orientations().tolist(),
            "fits": [dict(zip(names, row, strict=True)) for row in rows],
        }

    def figure(self) -> "Figure":
        """Returns each filter, below it the nearest Gabor filter and the error; at the end the orientations.

        Of kernels too small to be fitted, the filters alone.
        """
        count = len(self.weight)
        columns = min(count, _COLUMNS)
        rows = math.ceil(count / columns)
        if self.nearest is None or self.noise is None:
            figure = new_figure(max(0.62 * columns, 5.0), 0.75 * rows + 0.5, self.caption)
            plain = figure.subplots(rows, columns, squeeze=False)
            self._draw_filters(plain)
            return figure
        figure = new_figure(max(0.62 * columns, 5.0), 1.5 * rows + 2.3, self.caption)
        above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.5 * rows, 1.6)).flat
        axes = above.subplots(2 * rows, columns, squeeze=False)
        self._draw_filters(axes[::2])
        rendered = self.nearest.render(*self.weight.shape[2:])
        for axis in axes[1::2].flat:
            axis.set_axis_off()
        for index in range(count):
            row, column = divmod(index, columns)
            limit = float(max(self.patterns[index].abs().max(), rendered[index].abs().max())) or 1.0
            axes[2 * row + 1, column].imshow(
                rendered[index].numpy(), cmap="gray", vmin=-limit, vmax=limit, interpolation="nearest"
            )
            axes[2 * row + 1, column].set_title(f"{self.nearest.error[index]:.2f}", fontsize=6, pad=1)
        turned, errors = below.subplots(1, 2)
        counts = self.orientations()
        turned.bar([180 * index / len(counts) for index in range(len(counts))], counts.tolist(), width=18)
        turned.set_xlabel("direction of the wave, degrees", fontsize=7)
        turned.set_ylabel("filters", fontsize=7)
        both = [self.nearest.error.tolist(), self.noise.tolist()]
        errors.hist(
            both, bins=12, range=(0, 1), label=["the network's", "noise"], weights=[[1 / len(v)] * len(v) for v in both]
        )
        errors.set_ylabel("share of filters", fontsize=7)
        errors.set_xlabel("residual of the nearest Gabor filter (norm)", fontsize=7)
        errors.legend(fontsize=7, frameon=False)
        for axis in (turned, errors):
            axis.tick_params(labelsize=6)
        return figure

    def _draw_filters(self, axes: Any) -> None:
        """Yields each filter as a picture, row by row."""
        for axis in axes.flat:
            axis.set_axis_off()
        for axis, picture in zip(axes.flat, as_pictures(self.weight, self.scaling), strict=False):
            axis.imshow(picture.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def filters(model: str | nn.Module, *, scaling: Scaling = "each", **args: Any) -> Filters:
    """Finds the filters of a network's first convolution, and the Gabor filters nearest to them.

    Filters of three channels are shown in colour, others as their strongest pattern. Kernels below 5 x 5 are not
    fitted: the eight parameters of a Gabor filter fit almost any nine pixels.

    Args:
        model: A name, for which trained weights are used, or a network that :func:`zoo.create` returned.
        scaling: ``each`` shows each filter on its own scale, ``shared`` all on one.
        args: ``device``, and, if ``model`` is a name, ``weights`` and arguments of the family's build function.

    Returns:
        Filters, patterns and fits, with a figure.

    Raises:
        SpecError: The network has no convolution with learnt filters.

    Example:
        >>> import zoo
        >>> zoo.look.filters("resnet20.digits").weight.shape
        torch.Size([16, 1, 3, 3])
    """
    with opened(model, **args) as network:
        weight = find_first_layer(network).weight
        shapes, share = patterns(weight)
        caption = f"{name_of(network)}, first layer: {len(weight)} filters of {_size(weight)}"
        if min(weight.shape[2:]) < _SMALLEST:
            return Filters(caption, weight, shapes, share, None, None, scaling)
        noise = torch.randn(min(len(weight), _NOISE), *weight.shape[1:], generator=torch.Generator().manual_seed(0))
        caption += ", below each the nearest Gabor filter and its residual"
        return Filters(caption, weight, shapes, share, fit(shapes), fit(patterns(noise)[0]).error, scaling)


def find_first_layer(model: nn.Module) -> FirstLayer:
    """Returns the first two-dimensional convolution that ``model`` computes, with the weights that it is given then.

    Of filters that are modulated or standardised these are the results. Raises :class:`SpecError`.
    """
    try:
        with _FirstConvolution(), torch.no_grad():
            model(blank(model))
    except _Found as answer:
        return answer.layer
    raise SpecError(f"{name_of(model)} has no convolution with learned filters.")


def patterns(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Filters N C H W as one grey pattern each, N H W, and the share N of their energy that it holds.

    The nearest filter whose channels are all multiples of one pattern: the first singular vector, of the
    filter's norm if all energy is in it. Its sign is that of the strongest channel.
    """
    matrices = weight.detach().double().cpu().flatten(2)  # N C H W -> N C HW
    colors, strengths, rows = torch.linalg.svd(matrices, full_matrices=False)
    strongest = colors[:, :, 0].abs().argmax(1, keepdim=True)
    sign = colors[:, :, 0].gather(1, strongest).sign()
    energy = strengths.square()
    share = energy[:, 0] / energy.sum(1).clamp_min(torch.finfo(torch.float64).tiny)
    return (sign * strengths[:, :1] * rows[:, 0]).view(-1, *weight.shape[2:]), share


def as_pictures(weight: Tensor, scaling: Scaling = "each") -> Tensor:
    """Filters N C H W as N 3 H W or N 1 H W in [0, 1]; zero is mid-grey, the largest value of ``scaling`` an end."""
    shown = weight.float() if weight.shape[1] in (1, 3) else patterns(weight)[0].float()[:, None]
    limit = shown.abs().amax((1, 2, 3), keepdim=True) if scaling == "each" else shown.abs().amax()
    return 0.5 + 0.5 * shown / limit.clamp_min(torch.finfo(torch.float32).tiny)


def _size(weight: Tensor) -> str:
    return f"{weight.shape[2]}x{weight.shape[3]}"


class _Found(Exception):  # noqa: N818  # no error: it ends the run as soon as the question is answered
    def __init__(self, layer: FirstLayer) -> None:
        self.layer = layer


class _FirstConvolution(TorchFunctionMode):
    """Ends the run at the first convolution whose filters are parameters, or are made of them."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__name__", "") == "conv2d":
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            stride = args[3] if len(args) > 3 else kwargs.get("stride", 1)
            down, across = (stride, stride) if isinstance(stride, int) else (*stride, *stride)[:2]
            raise _Found(FirstLayer(weight.detach().float().cpu().clone(), (int(down), int(across))))
        return function(*args, **kwargs)
