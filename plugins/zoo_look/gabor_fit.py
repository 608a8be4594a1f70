"""The Gabor filter nearest to a given one, by least squares.

Of a filter's parameters, amplitude and phase enter linearly, as the weights of an even and an odd wave, and
are solved for exactly; the six others are searched (variable projection: Golub, Pereyra 1973), from the
best of a grid of starts, by damped Gauss-Newton steps (Levenberg, Marquardt).
"""

import math
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.errors import SpecError
from zoo.modules.gabor import pixels, rotated

PARAMETERS = 8
"""Numbers of one Gabor filter: a kernel of about as many pixels is fitted by nearly any."""

_TOGETHER = 32
"""Filters fitted at once: more takes memory and no less time."""

_GAMMA = (0.2, 2.0)
"""Bounds of the Gaussian's width over its length."""


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
        """The fitted filters, float64 N ``height width``."""
        x, y = pixels(height, width)
        shape = (-1, 1, 1)
        place = (x - self.x.view(shape), y - self.y.view(shape))
        along, across = rotated(place, self.orientation.view(shape))
        spread = (along**2 + (self.gamma.view(shape) * across) ** 2) / (2 * self.sigma.view(shape) ** 2)
        wave = torch.cos(2 * math.pi * along / self.wavelength.view(shape) + self.phase.view(shape))
        return self.amplitude.view(shape) * torch.exp(-spread) * wave


def fit(filters: Tensor, *, starts: int = 8, steps: int = 60) -> Fit:
    """The best-fitting Gabor filter for each of ``filters``, N H W.

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
        """Orientation, wavelength, sigma, gamma, x, y of ``points`` M 6, each M."""
        bounded = self.low + (self.high - self.low) * points[:, 1:].sigmoid()
        length, sigma, gamma = bounded[:, :3].exp().unbind(1)
        return (points[:, 0], length, sigma, gamma, *bounded[:, 3:].unbind(1))

    def basis(self, points: Tensor) -> Tensor:
        """The even and the odd waves of ``points`` M 6: M HW 2."""
        orientation, length, sigma, gamma, x, y = (number.unsqueeze(1) for number in self.meaning(points))
        along, across = rotated((self.x - x, self.y - y), orientation)
        envelope = torch.exp(-(along**2 + (gamma * across) ** 2) / (2 * sigma**2))
        angle = 2 * math.pi * along / length
        return torch.stack([envelope * angle.cos(), envelope * angle.sin()], dim=2)

    def residual(self, points: Tensor, targets: Tensor) -> Tensor:
        """What the best amplitude and phase at each of ``points`` M 6 leave of its target: M HW of M HW."""
        basis = self.basis(points)
        return targets - (basis @ _weights(basis, targets.unsqueeze(2))).squeeze(2)

    def slope(self, points: Tensor, targets: Tensor) -> Tensor:
        """The residuals' derivatives by the six numbers, M HW 6, by central differences."""
        step = 1e-5
        shifts = step * torch.eye(6, dtype=points.dtype).unsqueeze(1)  # 6 1 6
        ahead, behind = (
            self.residual((points + shift).flatten(0, 1), targets.repeat(6, 1)) for shift in (shifts, -shifts)
        )
        return ((ahead - behind) / (2 * step)).view(6, *targets.shape).movedim(0, 2)  # 6M HW -> M HW 6


def _weights(bases: Tensor, targets: Tensor) -> Tensor:
    """The least-squares weights M 2 N of ``bases`` M HW 2 for ``targets`` M HW N (or HW N, the same for all)."""
    gram = bases.mT @ bases
    # A wave that vanishes on all pixels, such as a sine of 2 pixels, would leave the system singular.
    gram = gram + 1e-10 * gram.diagonal(dim1=1, dim2=2).sum(1).view(-1, 1, 1) * torch.eye(2, dtype=gram.dtype)
    inverse = gram.flip(1, 2) * torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=gram.dtype)
    determinant = gram[:, 0, 0] * gram[:, 1, 1] - gram[:, 0, 1] ** 2
    return (inverse @ (bases.mT @ targets)) / determinant.view(-1, 1, 1)


def _explained(bases: Tensor, targets: Tensor) -> Tensor:
    """The share of ``targets``, N HW of norm 1, that each of ``bases`` G HW 2 explains: N G."""
    return (_weights(bases, targets.T) * (bases.mT @ targets.T)).sum(1).T


def _descend(problem: _Problem, points: Tensor, targets: Tensor, steps: int) -> Tensor:
    """``points`` M 6 moved so that they leave least of ``targets`` M HW."""
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
