"""Adversarial patches: pixels that make a network predict one class wherever they are placed.

T. B. Brown, D. Mané, A. Roy, M. Abadi and J. Gilmer, Adversarial Patch, 2017, arXiv 1712.09665: the
patch is the maximiser of the expected log probability of the target over images and over how it is
placed (expectation over transformation, EOT). The patch is transformed, never the image.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.errors import DataError
from zoo.loading import safetensors_file
from zoo.spec import Spec
from zoo.training.perturbation import check_images

Shape = Literal["circle", "square"]
KIND = "adversarial patch"
"""The mark by which a file says what it holds."""


class Ranges(Spec, frozen=True, forbid_unknown_fields=True):
    """The places that a patch may take, at random for each image.

    Its side is uniform in ``scale`` times the image's shorter side, its angle in +- ``rotation`` degrees. ``location``
    is its centre, (x, y) as fractions of width and height from the top left, or None for any place at which it is
    completely within the image. A circle's side is its diameter.
    """

    scale: tuple[float, float] = (0.3, 0.6)
    rotation: Annotated[float, msgspec.Meta(ge=0, le=180)] = 22.5
    location: tuple[float, float] | None = None

    def _check(self) -> None:
        low, high = self.scale
        self.require(0 < low <= high <= 1, f"scale {self.scale} must be (low, high) with 0 < low <= high <= 1")
        place = self.location or (0.5, 0.5)
        self.require(all(0 <= part <= 1 for part in place), f"location {self.location} must be in [0, 1]")


class Placement(NamedTuple):
    """One placement for each of B images: ``scale`` and ``angle`` (degrees, anticlockwise) B, ``center`` B 2."""

    scale: Tensor
    angle: Tensor
    center: Tensor


class Origin(msgspec.Struct, frozen=True):
    """The origin of a patch; empty fields are unknown or do not apply."""

    target: int = -1
    target_name: str = ""
    weights: tuple[str, ...] = ()
    data: str = ""
    split: str = ""
    fingerprint: str = ""
    steps: int = 0
    batch_size: int = 0
    lr: float = 0.0
    seed: int = 0
    versions: dict[str, str] = {}
    command: str = ""


@dataclass(frozen=True, eq=False)
class Patch:
    """``pixels`` float32 C S S in [0, 1] and ``mask`` float32 S S, 1 where the patch is; ``ranges`` it was made for.

    Raises :class:`zoo.DataError` if these do not fit one another.
    """

    pixels: Tensor
    mask: Tensor
    ranges: Ranges = field(default_factory=Ranges)
    origin: Origin = field(default_factory=Origin)

    def __post_init__(self) -> None:
        check_images(self.pixels[None])
        side = self.pixels.shape[-1]
        if self.pixels.shape[1:] != (side, side) or self.mask.shape != (side, side):
            raise DataError(
                f"A patch's pixels are {tuple(self.pixels.shape)}, its mask {tuple(self.mask.shape)}, "
                "expected C S S and S S."
            )

    @classmethod
    def of(cls, pixels: Tensor, shape: Shape = "circle", ranges: Ranges | None = None) -> "Patch":
        """Returns a patch of any ``pixels`` float C S S in [0, 1], such as noise or a picture, to compare with."""
        return cls(pixels, mask_of(shape, pixels.shape[-1]), ranges or Ranges())

    def write(self, file: str | Path) -> str:
        """Writes a safetensors file that :func:`read_patch` reads; returns its sha256."""
        about = {"kind": KIND, "ranges": msgspec.to_builtins(self.ranges), "origin": msgspec.to_builtins(self.origin)}
        return safetensors_file.write({"pixels": self.pixels, "mask": self.mask}, Path(file), about)


def read_patch(file: str | Path) -> Patch:
    """Reads a patch that :meth:`Patch.write` wrote.

    Args:
        file: The file.

    Returns:
        The patch.

    Raises:
        DataError: The file has no patch.
        WeightsError: The file is not safetensors.

    Example:
        >>> import torch, zoo
        >>> patch = zoo.attack.Patch(torch.ones(1, 4, 4), torch.ones(4, 4), zoo.attack.Ranges())
        >>> _ = patch.write("patch.safetensors")
        >>> zoo.attack.read_patch("patch.safetensors").pixels.shape
        torch.Size([1, 4, 4])
    """
    file = Path(file)
    tensors, about = safetensors_file.read(file), safetensors_file.metadata(file)
    try:
        if about["kind"] != KIND:
            raise ValueError(f"its kind is {about['kind']!r}")
        ranges = msgspec.convert(about["ranges"], Ranges)
        return Patch(tensors["pixels"], tensors["mask"], ranges, msgspec.convert(about["origin"], Origin))
    except (msgspec.ValidationError, LookupError, ValueError) as error:
        raise DataError(
            f"{file} is not a patch file: {error}.", hint="Create it with zoo attack patch train."
        ) from None


def mask_of(shape: Shape, side: int) -> Tensor:
    """Returns float32 ``side`` x ``side``: 1 where the centre of a pixel is within the shape, otherwise 0."""
    if shape == "square":
        return torch.ones(side, side)
    centers = (torch.arange(side) + 0.5) / side * 2 - 1
    return (centers[:, None] ** 2 + centers[None] ** 2 <= 1).float()


def place(ranges: Ranges, count: int, size: tuple[int, int], shape: Shape, generator: torch.Generator) -> Placement:
    """Returns ``count`` random placements by ``ranges`` in images of ``size`` (height, width); ``generator`` is on
    the CPU.
    """
    draws = torch.rand((4, count), generator=generator, dtype=torch.float64)
    low, high = ranges.scale
    scale = low + (high - low) * draws[0]
    angle = ranges.rotation * (2 * draws[1] - 1)
    if ranges.location is not None:
        center = torch.tensor(ranges.location, dtype=torch.float64).expand(count, 2)
        return Placement(scale, angle, center)
    height, width = size
    radians = angle * (math.pi / 180)
    reach = scale * min(size) / 2
    if shape == "square":  # its corners reach further when it is turned
        reach = reach * (radians.cos().abs() + radians.sin().abs())
    sides = torch.tensor([width, height], dtype=torch.float64)
    margin = (reach[:, None] / sides).clamp_max(0.5)  # B 2
    return Placement(scale, angle, margin + (1 - 2 * margin) * draws[2:].T)


def paste(pixels: Tensor, mask: Tensor, images: Tensor, placement: Placement) -> Tensor:
    """Returns ``images`` B C H W with the patch ``pixels`` C S S on each, visible where ``mask`` S S is 1.

    Bilinear, and differentiable with respect to ``pixels``. A patch of the images' size at scale 1, without rotation
    and in the middle, appears pixel by pixel.
    """
    count, _, height, width = images.shape
    scale, angle, center = (part.to(images.device, torch.float32) for part in placement)
    radians = angle * (math.pi / 180)
    half = scale * (min(height, width) / 2)
    right = torch.arange(width, device=images.device) + 0.5 - center[:, :1] * width  # B W
    down = torch.arange(height, device=images.device) + 0.5 - center[:, 1:] * height  # B H
    cos, sin = (part[:, None, None] for part in (radians.cos(), radians.sin()))
    # From a place in the image back to one in the patch; y points down, so anticlockwise is negative.
    u = (right[:, None, :] * cos - down[:, :, None] * sin) / half[:, None, None]  # B H W
    v = (right[:, None, :] * sin + down[:, :, None] * cos) / half[:, None, None]
    grid = torch.stack([u, v], dim=-1)
    # Colours go on beyond the patch's edge, the mask does not: no black seeps in at the rim.
    color = F.grid_sample(pixels.expand(count, -1, -1, -1), grid, padding_mode="border", align_corners=False)
    seen = F.grid_sample(mask.expand(count, 1, -1, -1), grid, padding_mode="zeros", align_corners=False)
    return images + (color - images) * seen


def apply(
    patch: Patch,
    images: Tensor,
    *,
    scale: float | tuple[float, float] | None = None,
    rotation: float | None = None,
    location: tuple[float, float] | None = None,
    seed: int = 0,
) -> Tensor:
    """Puts a patch onto each image, at a random place within its ranges.

    Args:
        patch: The patch. One of a single channel is repeated on images of three.
        images: float B C H W in [0, 1].
        scale: Side of the patch as a share of the image's shorter side, or (least, most). By default the patch's.
        rotation: Largest rotation in degrees. By default the patch's.
        location: Where its centre is, (x, y) as shares of width and height. By default the patch's.
        seed: Decides the random places.

    Returns:
        The changed images.

    Raises:
        DataError: The images are not float B C H W in [0, 1], or have another number of channels.
        SpecError: A range is not possible.

    Example:
        >>> import torch, zoo
        >>> patch = zoo.attack.Patch(torch.ones(1, 4, 4), torch.ones(4, 4), zoo.attack.Ranges())
        >>> images = zoo.attack.apply(patch, torch.zeros(2, 3, 8, 8), scale=0.5, rotation=0, location=(0.5, 0.5))
        >>> images.sum(dim=(1, 2, 3)) / 3
        tensor([16., 16.])
    """
    check_images(images)
    channels = images.shape[1]
    if len(patch.pixels) not in (1, channels):
        raise DataError(f"A patch of {len(patch.pixels)} channels cannot be applied to images with {channels}.")
    changes: dict[str, Any] = {"rotation": rotation, "location": location}
    changes["scale"] = (scale, scale) if isinstance(scale, int | float) else scale
    stated = {name: value for name, value in changes.items() if value is not None}
    ranges = msgspec.structs.replace(patch.ranges, **stated)
    generator = torch.Generator().manual_seed(seed)
    shape: Shape = "square" if patch.mask.all() else "circle"
    placement = place(ranges, len(images), (images.shape[2], images.shape[3]), shape, generator)
    pixels = patch.pixels.to(images).expand(channels, -1, -1)
    return paste(pixels, patch.mask.to(images), images, placement).clamp(0, 1)
