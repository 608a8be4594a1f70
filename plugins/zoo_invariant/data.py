"""MNIST under random maps of the plane, made anew in memory and the same everywhere.

``mnist_rot``: each digit turned by an angle uniform in [0, 360) degrees (of 60,000 and 10,000
digits, not the 12,000 and 50,000 of Larochelle et al. 2007, which share the name; Zhou et al. 2017 and Luan et al. 2017
draw the angle anew at every access, as ``augment.redraw`` does, and hold 10,000 of the 60,000 out). ``mnist_r``:
by one in [-90, 90) degrees. ``mnist_rts``: turned by one in [-45, 45), magnified by 0.7 to 1.2 and put
at a random place of a canvas of 42x42 pixels (both Jaderberg et al. 2015). Their papers publish neither
images nor seeds, nor, of ``mnist_rts``, the range of places: here the magnified frame of 28x28 pixels
stays within the canvas, so that no digit is cut.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import radians
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.data import ImageSet, load

SEEDS = {"train": 0, "test": 1}
"""Seeds of torch's generator on the CPU, by split."""
_CHUNK = 2000


class Maps(NamedTuple):
    """Ranges of random similarity maps: ``degrees`` and ``scale`` from, to; side of the ``canvas`` in pixels."""

    degrees: tuple[float, float]
    scale: tuple[float, float] = (1.0, 1.0)
    canvas: int = 28


MAPS = {
    "mnist_rot": Maps((0, 360)),
    "mnist_r": Maps((-90, 90)),
    "mnist_rts": Maps((-45, 45), scale=(0.7, 1.2), canvas=42),
}


def load_rotated(root: Path, split: str) -> ImageSet:
    """Returns ``mnist_rot``, uint8 N 1 28 28."""
    return _moved("mnist_rot", root, split)


def load_half_rotated(root: Path, split: str) -> ImageSet:
    """Returns ``mnist_r``, uint8 N 1 28 28."""
    return _moved("mnist_r", root, split)


def load_placed(root: Path, split: str) -> ImageSet:
    """Returns ``mnist_rts``, uint8 N 1 42 42."""
    return _moved("mnist_rts", root, split)


@lru_cache(maxsize=2)
def _moved(name: str, root: Path, split: str) -> ImageSet:
    digits = load("mnist", split, root=root)
    assert digits.pixels is not None  # MNIST lies in memory
    maps = MAPS[name]
    draws = torch.rand(4, len(digits), dtype=torch.float64, generator=torch.Generator().manual_seed(SEEDS[split]))
    pixels = moved(digits.pixels, *drawn(maps, draws, digits.pixels.shape[-1]), canvas=maps.canvas)
    return ImageSet(
        name,
        split,
        digits.classes,
        digits.labels,
        pixels,
        origin=f"{name} of {digits.origin}",
        redraw=_Redraw(digits.pixels, maps),
    )


@dataclass(frozen=True, eq=False)
class _Redraw:
    """Other maps of the same ``digits``, uint8 N 1 28 28."""

    digits: Tensor
    maps: Maps

    def __call__(self, numbers: Tensor, generator: torch.Generator) -> Tensor:
        draws = torch.rand(4, len(self.digits), dtype=torch.float64, generator=generator)[:, numbers]
        chosen = self.digits[numbers]
        return moved(chosen, *drawn(self.maps, draws, chosen.shape[-1]), canvas=self.maps.canvas)


def drawn(maps: Maps, draws: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Angles in radians N, magnifications N and shifts in pixels N 2 (right, down) of ``draws`` in [0, 1), 4 N.

    A frame of ``side`` pixels, magnified, stays within the canvas.
    """
    angle, scale, *place = draws
    low, high = maps.degrees
    angles = radians(low) + radians(high - low) * angle
    low, high = maps.scale
    scales = low + (high - low) * scale
    room = (maps.canvas - side * scales) / 2  # to each side of the centre
    return angles, scales, (2 * torch.stack(place, dim=1) - 1) * room[:, None]


def moved(pixels: Tensor, angles: Tensor, scales: Tensor, shifts: Tensor, *, canvas: int) -> Tensor:
    """Puts images uint8 N 1 S S on a black canvas, uint8 N 1 canvas canvas, bilinear.

    Each is turned counter-clockwise by its angle (radians, N) about its centre, magnified by its scale
    (N), and its centre put at the canvas's plus its shift (pixels right and down, N 2). All in float64:
    what is rounded at the end then does not hang on the machine's last digit.
    """
    matrices = _from_canvas(angles, scales, shifts, canvas=canvas, side=pixels.shape[-1])
    parts = zip(torch.split(pixels, _CHUNK), torch.split(matrices, _CHUNK), strict=True)
    return torch.cat([_sampled(part, matrix, canvas) for part, matrix in parts])


def _from_canvas(angles: Tensor, scales: Tensor, shifts: Tensor, *, canvas: int, side: int) -> Tensor:
    """Returns N 2 3: where in the image a point of the canvas is found; both reach from -1 to 1, edge to edge."""
    cos, sin = angles.cos() / scales, angles.sin() / scales
    turn = torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)  # y points down: turns back, clockwise
    offset = -turn @ shifts[:, :, None]
    return torch.cat([turn * canvas, offset * 2], dim=2) / side


def _sampled(pixels: Tensor, matrix: Tensor, canvas: int) -> Tensor:
    grid = F.affine_grid(matrix, [len(pixels), 1, canvas, canvas], align_corners=False)
    values = F.grid_sample(pixels.double(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return values.round().to(torch.uint8)
