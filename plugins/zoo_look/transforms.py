"""Image transformations with one number as strength."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.errors import SpecError

Edges = Literal["reflection", "zeros", "border", "circular"]

STRENGTHS: Mapping[str, tuple[float, ...]] = {
    "translation": (0, 1 / 32, 2 / 32, 4 / 32, 8 / 32),
    "rotation": (0, 15, 30, 45, 60, 90, 135, 180),
    "scale": (0.5, 0.7, 0.85, 1, 1.2, 1.5, 2),
    "shear": (0, 10, 20, 30, 40),
    "brightness": (-0.4, -0.2, -0.1, 0, 0.1, 0.2, 0.4),
    "contrast": (0.2, 0.5, 0.75, 1, 1.5, 2),
    "blur": (0, 0.5, 1, 1.5, 2),
    "jpeg": (100, 75, 50, 25, 10, 5),
}
"""What is tried of each transformation, in its :data:`UNITS`."""

UNITS = {
    "translation": "share of the width",
    "rotation": "degrees, counter-clockwise",
    "scale": "factor",
    "shear": "degrees",
    "brightness": "added to pixels in [0, 1]",
    "contrast": "factor about the image's mean",
    "blur": "sigma of the Gaussian, pixels",
    "jpeg": "quality",
}


def transform(pixels: Tensor, name: str, strength: float, edges: Edges = "reflection") -> Tensor:
    """``pixels`` float B C H W in [0, 1], transformed; of the same shape, in [0, 1].

    ``strength`` is in the :data:`UNITS` of the transformation: translation goes to the right, scale 2 shows the
    middle half twice as large. Raises :class:`SpecError` for a strength that is none.
    """
    if not math.isfinite(strength):
        raise SpecError(f"{name} of strength {strength} is not a valid transformation.")
    if name == "brightness":
        return (pixels + strength).clamp(0, 1)
    if name == "contrast":
        mean = pixels.mean((1, 2, 3), keepdim=True)
        return ((pixels - mean) * strength + mean).clamp(0, 1)
    if name == "blur":
        return _blur(pixels, strength)
    if name == "jpeg":
        return _jpeg(pixels, strength)
    return _move(pixels, _matrix(name, strength), edges)


def _matrix(name: str, strength: float) -> Tensor:
    """2 x 3, from the place of a pixel to where it is taken from, in half-sides from the centre, y down."""
    angle = math.radians(strength)
    if name == "translation":
        return torch.tensor([[1.0, 0.0, -2 * strength], [0.0, 1.0, 0.0]])
    if name == "rotation":
        cos, sin = math.cos(angle), math.sin(angle)
        return torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]])
    if name == "shear" and abs(strength) < 90:
        return torch.tensor([[1.0, math.tan(angle), 0.0], [0.0, 1.0, 0.0]])
    if name == "scale" and strength > 0:
        return torch.tensor([[1 / strength, 0.0, 0.0], [0.0, 1 / strength, 0.0]])
    raise SpecError(f"{name} of strength {strength} is not a valid transformation.")


def _move(pixels: Tensor, matrix: Tensor, edges: Edges) -> Tensor:
    """Bilinear sampling; distances are pixels on both axes, whatever the image's shape."""
    count, _, height, width = pixels.shape
    if torch.equal(matrix, torch.eye(2, 3)):
        return pixels
    y, x = torch.meshgrid(
        *(torch.arange(side, dtype=torch.float64) - (side - 1) / 2 for side in (height, width)), indexing="ij"
    )
    linear, shift = matrix[:, :2].double(), matrix[:, 2].double() * width / 2
    source = torch.stack([x, y], -1) @ linear.T + shift  # H W 2, pixels from the centre
    if edges == "circular":
        pixels = pixels.repeat(1, 1, 3, 3)
    sides = torch.tensor([pixels.shape[3], pixels.shape[2]], dtype=torch.float64)
    grid = (source * 2 / sides).to(pixels).expand(count, height, width, 2)
    mode = "border" if edges == "circular" else edges
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode=mode, align_corners=False).clamp(0, 1)


def _blur(pixels: Tensor, sigma: float) -> Tensor:
    if sigma < 0:
        raise SpecError(f"blur of sigma {sigma} is not a valid transformation.")
    if sigma == 0:
        return pixels
    reach = min(math.ceil(3 * sigma), min(pixels.shape[2:]) - 1)
    steps = torch.arange(-reach, reach + 1, dtype=pixels.dtype, device=pixels.device)
    kernel = torch.exp(-(steps**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(pixels.shape[1], 1, 1, -1)
    padded = F.pad(pixels, (reach, reach, reach, reach), mode="reflect")
    rows = F.conv2d(padded, kernel, groups=pixels.shape[1])
    return F.conv2d(rows, kernel.mT, groups=pixels.shape[1])


def _jpeg(pixels: Tensor, quality: float) -> Tensor:
    from io import BytesIO

    from PIL import Image

    from zoo.data.image_file import to_image, to_pixels

    if not 1 <= quality <= 100:
        raise SpecError(f"jpeg of quality {quality}: expected 1 to 100.")
    packed = []
    for image in (pixels * 255).round().to(torch.uint8):
        buffer = BytesIO()
        to_image(image).save(buffer, "JPEG", quality=round(quality))
        with Image.open(buffer) as opened_image:
            packed.append(to_pixels(opened_image))
    return torch.stack(packed).to(pixels) / 255
