"""Augmentation of batches, with independent random parameters for each image.

The functions take one parameter a sample and draw nothing; ``Augment`` draws. All keep uint8
B C H W, so that they cost a memory pass or two and the pixels stay what a file could hold.
``Policies`` are torchvision's transforms, each draw of which follows from a seed.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.data.augmentation import Affine, Augmentation, ResizedCrop
from zoo.errors import DataError, MissingExtraError


class Augment:
    """Augments batches by ``settings``, with random numbers only from ``generator``.

    A generator on the CPU works for batches on any device. With ``part``, a batch is that part of a larger one, of
    which each of several processes augments one: the random numbers are those of the whole batch, so that together they
    give the same result.
    """

    def __init__(self, settings: Augmentation, generator: torch.Generator, part: tuple[range, int] | None = None):
        self.settings = settings
        self.generator = generator
        self.part = part

    def __call__(self, pixels: Tensor, is_mirrored: Tensor | None = None) -> Tensor:
        """Returns new uint8 B C H W of ``pixels`` uint8 B C H W.

        ``is_mirrored``, bool B, says for ``flip = "alternate"`` which to mirror this time.
        """
        if pixels.dtype != torch.uint8 or pixels.ndim != 4:
            raise DataError(f"Got {pixels.dtype} of shape {tuple(pixels.shape)}, expected uint8 pixels B C H W.")
        settings, (batch, _, height, width) = self.settings, pixels.shape
        if settings.affine is not None:
            pixels = self._warp(pixels, settings.affine)
        if settings.pad_crop:
            pixels = pad(pixels, settings.pad_crop, settings.padding)
            places = 2 * settings.pad_crop + 1
            top, left = self._integers(places, batch, pixels), self._integers(places, batch, pixels)
            pixels = crop(pixels, top, left, height, width)
        if settings.flip == "alternate":
            if is_mirrored is None:
                raise DataError('flip = "alternate" needs images with numbers.', hint="Use flip = true.")
            pixels = flip(pixels, is_mirrored)
        elif settings.flip:
            pixels = flip(pixels, self._uniform(0, 1, (batch,), pixels) < 0.5)
        if settings.pca_color:
            pixels = add_colors(pixels, settings.pca_color * self._normal(3, batch, pixels))
        if settings.cutout:
            row, column = self._integers(height, batch, pixels), self._integers(width, batch, pixels)
            pixels = cut_out(pixels, row, column, settings.cutout)
        return pixels

    def _uniform(self, low: float, high: float, shape: tuple[int, ...], pixels: Tensor) -> Tensor:
        own, total = self.part or (range(shape[0]), shape[0])
        draw = torch.rand((total, *shape[1:]), generator=self.generator, device=self.generator.device)
        return (low + (high - low) * draw[own.start : own.stop]).to(pixels.device)

    def _normal(self, numbers: int, count: int, pixels: Tensor) -> Tensor:
        own, total = self.part or (range(count), count)
        draw = torch.randn((total, numbers), generator=self.generator, device=self.generator.device)
        return draw[own.start : own.stop].to(pixels.device)

    def _integers(self, below: int, count: int, pixels: Tensor) -> Tensor:
        own, total = self.part or (range(count), count)
        draw = torch.randint(below, (total,), generator=self.generator, device=self.generator.device)
        return draw[own.start : own.stop].to(pixels.device)

    def _warp(self, pixels: Tensor, ranges: Affine) -> Tensor:
        batch, _, height, width = pixels.shape
        sides = torch.tensor([width, height], device=pixels.device)
        return warp(
            pixels,
            degrees=self._uniform(-ranges.degrees, ranges.degrees, (batch,), pixels),
            translate=self._uniform(-ranges.translate, ranges.translate, (batch, 2), pixels) * sides,
            scale=self._uniform(*ranges.scale, (batch,), pixels),
            shear=self._uniform(-ranges.shear, ranges.shear, (batch,), pixels),
        )


def pad(pixels: Tensor, border: int, padding: str) -> Tensor:
    """Pads ``pixels`` by ``border`` on every side, with black (``zero``) or mirrored about the edge (``reflect``)."""
    if padding == "zero":
        return F.pad(pixels, (border,) * 4)
    height, width = pixels.shape[2:]
    if border >= min(height, width):
        raise DataError(f"Images of {height} x {width} cannot be padded by {border} reflected pixels.")
    rows, columns = (_reflected(side, border, pixels.device) for side in (height, width))
    return pixels.index_select(2, rows).index_select(3, columns)


def _reflected(side: int, border: int, device: torch.device) -> Tensor:
    """Returns indices -border ... side + border - 1, reflected into the side without repeating its edges."""
    index = torch.arange(-border, side + border, device=device).abs()
    return torch.minimum(index, 2 * (side - 1) - index)


def crop(pixels: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Crops each image to ``height`` x ``width`` at its ``top`` and ``left``, int64 B."""
    windows = pixels.unfold(2, height, 1).unfold(3, width, 1)  # B C H' W' h w, a view
    samples = torch.arange(len(pixels), device=pixels.device)
    return windows.permute(0, 2, 3, 1, 4, 5)[samples, top, left]  # copies whole windows: five times a gather's speed


def flip(pixels: Tensor, is_mirrored: Tensor) -> Tensor:
    """Mirrors left and right if ``is_mirrored``, bool B."""
    return torch.where(is_mirrored[:, None, None, None], pixels.flip(-1), pixels)


COLORS = 255 * torch.tensor([0.2175, 0.0188, 0.0045])
"""Sizes of the principal components of ImageNet's colours, as fb.resnet.torch and its successors have them."""
COLOR_DIRECTIONS = torch.tensor([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
"""Directions of these components: a row for each of R, G, B, a column for each component."""


def add_colors(pixels: Tensor, multiples: Tensor) -> Tensor:
    """Adds ``multiples`` B 3 of the principal components to each image's R, G and B, clipped at 0 and 255."""
    if pixels.shape[1] != 3:
        raise DataError(f"pca_color: the images have {pixels.shape[1]} channels, expected R, G and B.")
    change = (multiples * COLORS.to(pixels.device)) @ COLOR_DIRECTIONS.to(pixels.device).T
    return (pixels + change[:, :, None, None]).round_().clamp_(0, 255).to(torch.uint8)


def cut_out(pixels: Tensor, row: Tensor, column: Tensor, side: int) -> Tensor:
    """Blackens squares of ``side`` about (``row``, ``column``), int64 B (DeVries and Taylor 2017).

    The square spans ``row - side // 2`` to ``row - side // 2 + side - 1``, clipped at the border.
    """

    def covers(center: Tensor, length: int) -> Tensor:
        offset = torch.arange(length, device=pixels.device) - (center[:, None] - side // 2)
        return (offset >= 0) & (offset < side)  # B length

    rows, columns = covers(row, pixels.shape[2]), covers(column, pixels.shape[3])
    return pixels.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def warp(pixels: Tensor, *, degrees: Tensor, translate: Tensor, scale: Tensor, shear: Tensor) -> Tensor:
    """Rotates (clockwise), shears and scales around the centre, then shifts; bilinear, black outside.

    ``degrees``, ``scale`` and ``shear`` (degrees, horizontal) are B, ``translate`` is B 2, pixels to the right and
    down. The conventions are those of torchvision's ``affine``.
    """
    height, width = pixels.shape[2:]
    angle, slant = degrees.double().deg2rad(), shear.double().deg2rad()
    cos, sin, tan, by = angle.cos(), angle.sin(), slant.tan(), scale.double()
    # The forward map is R(angle) [[1, -tan], [0, 1]] scale; a sampling grid needs its inverse.
    inverse = torch.stack([cos + tan * -sin, sin + tan * cos, -sin, cos], dim=1).view(-1, 2, 2) / by[:, None, None]
    offset = -(inverse @ translate.double()[:, :, None])
    # From pixels about the centre to grid_sample's [-1, 1].
    sides = torch.tensor([width, height], dtype=torch.float64, device=pixels.device)
    theta = torch.cat([inverse * sides / sides[:, None], 2 * offset / sides[:, None]], dim=2)
    grid = F.affine_grid(theta.float(), list(pixels.shape), align_corners=False)
    moved = F.grid_sample(pixels.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved.round_().clamp_(0, 255).to(torch.uint8)


_TRIES = 10


def draw_window(
    settings: ResizedCrop, height: int, width: int, generator: torch.Generator
) -> tuple[int, int, int, int]:
    """Draws a window of an image of ``height`` x ``width``: a random resized crop (Szegedy et al. 2015, section 6).

    Its area is uniform in ``scale`` times the image's, its width over height log-uniform in ``ratio``.
    Where ten draws do not fit into the image, the largest centred window of an allowed shape. The
    same numbers in the same order as torchvision's ``RandomResizedCrop.get_params`` takes them.
    """
    log_ratio = torch.log(torch.tensor(settings.ratio))
    for _ in range(_TRIES):
        area = height * width * _uniform_number(*settings.scale, generator).item()
        ratio = torch.exp(_uniform_number(float(log_ratio[0]), float(log_ratio[1]), generator)).item()
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            top = int(torch.randint(0, height - down + 1, (1,), generator=generator))
            left = int(torch.randint(0, width - across + 1, (1,), generator=generator))
            return left, top, left + across, top + down
    low, high = settings.ratio
    across, down = width, height
    if width / height < low:
        down = round(width / low)
    elif width / height > high:
        across = round(height * high)
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


def _uniform_number(low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return torch.empty(1).uniform_(low, high, generator=generator)


class Policies:
    """The settings that torchvision implements, for images of ``classes`` classes.

    Raises :class:`MissingExtraError` if torchvision is not installed.
    """

    def __init__(self, settings: Augmentation, classes: int) -> None:
        self._classes = classes
        self._vary: list[Callable[[Tensor], Tensor]] = []
        self._erase: Callable[[Tensor], Tensor] | None = None
        self._mix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
        try:
            from torchvision.transforms import v2
        except ImportError:
            raise MissingExtraError.of("This augmentation", "torchvision", "zoo-vision[data]") from None
        bilinear: Any = {"interpolation": v2.InterpolationMode.BILINEAR}
        if (jitter := settings.color_jitter) is not None:
            self._vary.append(v2.ColorJitter(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue))
        if (drawn := settings.rand_augment) is not None:
            self._vary.append(v2.RandAugment(drawn.number, drawn.magnitude, **bilinear))
        if settings.trivial_augment:
            self._vary.append(v2.TrivialAugmentWide(**bilinear))
        if settings.random_erasing:
            self._erase = v2.RandomErasing(settings.random_erasing)
        mixup = [v2.MixUp(alpha=settings.mixup, num_classes=self._classes)] if settings.mixup else []
        cutmix = [v2.CutMix(alpha=settings.cutmix, num_classes=self._classes)] if settings.cutmix else []
        if mixup or cutmix:
            shares = [1 - settings.cutmix_share, settings.cutmix_share] if mixup and cutmix else None
            self._mix = v2.RandomApply([v2.RandomChoice([*mixup, *cutmix], shares)], settings.mix_probability)

    def vary(self, pixels: Tensor, seeds: Sequence[int]) -> Tensor:
        """Varies ``pixels`` uint8 B C H W, each image by its own seed."""
        for transform in self._vary:
            pixels = _each_image(transform, pixels, seeds)
        return pixels

    def erase(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """Sets a random rectangle to 0 in some of the normalised ``images``, float B C H W."""
        return images if self._erase is None else _each_image(self._erase, images, seeds)

    def mix(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Mixes images of a batch with one another; returns them and the shares of their classes.

        ``labels``, int64 B, become float B K if the settings mix images, whether this batch is mixed or not.
        """
        if self._mix is None:
            return images, labels
        with _drawing(seed):
            images, mixed = self._mix(images, labels)
        return images, mixed if mixed.ndim == 2 else F.one_hot(mixed, self._classes).float()


def _each_image(transform: Callable[[Tensor], Tensor], images: Tensor, seeds: Sequence[int]) -> Tensor:
    made = []
    for image, seed in zip(images, seeds, strict=True):
        with _drawing(seed):
            made.append(transform(image))
    return torch.stack(made)


@contextmanager
def _drawing(seed: int) -> Iterator[None]:
    """Makes torch's generator on the CPU, the only one that these transforms use, draw as ``seed`` says within."""
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(before)
