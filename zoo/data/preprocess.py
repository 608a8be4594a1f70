"""Preprocessing of images, equal to timm's evaluation transforms, and transforms for the user's own data sets.

Pillow resizes, torch does the rest; neither torchvision nor timm is imported.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.data.augmentation import OWN_SCALE
from zoo.data.image_file import check_pixels, read_image, to_channels, to_image, to_pixels, upright
from zoo.data.image_set import ImageSet
from zoo.errors import DataError, MissingExtraError
from zoo.spec import Preprocess

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


class Transform:
    """The transform described by ``preprocess``.

    The shorter side is resized to ``floor(size / crop_pct)`` (for a non-square input, the side that is nearer to its
    target) and the centre is cropped, with black padding if the image is smaller, unless ``crop_mode`` selects another
    way. Values are scaled to [0, 1], then ``(x - mean) / std``. Colour is converted to grey, or grey repeated, to match
    ``input_size``. Whitening is part of the network. Before all of this, a photograph is turned as its EXIF says, and
    laid on white where it is transparent; colour profiles are ignored.
    """

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess
        self.channels, self.height, self.width = preprocess.input_size
        fill = [round(255 * mean) if preprocess.crop_mode == "border" else 0 for mean in preprocess.mean]
        self._fill = torch.tensor(fill, dtype=torch.uint8)[:, None, None]
        self._constants: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = {}

    def __repr__(self) -> str:
        return f"Transform({self.preprocess!r})"

    def __call__(self, image: "Picture") -> Tensor:
        """Returns float32 C H W of ``image``, in any mode of 8 or 16 bits a channel; float32 B C H W of a batch.

        Raises :class:`DataError` for anything but a :data:`Picture`.
        """
        picture = as_picture(image, self.channels)
        if isinstance(picture, Image.Image):
            return self._normalize(self.pixels(picture))
        pixels = picture.as_subclass(Tensor)  # of torchvision's tv_tensors
        return self.batch(pixels) if pixels.ndim == 4 else self.batch(pixels[None])[0]

    def pixels(self, image: Image.Image, window: tuple[int, int, int, int] | None = None) -> Tensor:
        """Returns uint8 C H W of ``image`` at the input's size, not yet normalised.

        ``window`` (left, top, right, bottom) of the upright image is resized to it instead of the centre crop.
        """
        if window is None:
            return self._cut(self._resize(image))
        cropped = to_channels(upright(image).crop(window), self.channels)
        return to_pixels(cropped.resize((self.width, self.height), _FILTERS[self.preprocess.interpolation]))

    def batch(self, pixels: Tensor) -> Tensor:
        """Returns float32 B C H W of ``pixels`` uint8 B C H W, on their device: equal to an image at a time."""
        if pixels.dtype != torch.uint8 or pixels.ndim != 4:
            raise DataError(f"Got {pixels.dtype} of shape {tuple(pixels.shape)}, expected uint8 pixels B C H W.")
        height, width = pixels.shape[2:]
        if self._resized(height, width) == (height, width):
            return self._normalize(self._cut(self._adapt(pixels)))
        cut = torch.stack([self._cut(self._resize(to_image(image))) for image in pixels])
        return self._normalize(cut.to(pixels.device))

    def take(self, images: ImageSet, numbers: Tensor) -> Tensor:
        """Returns float32 B C H W of those of ``images`` numbered ``numbers``, int64 B."""
        if images.pixels is not None:
            return self.batch(images.pixels[numbers])
        return torch.stack([self(images.image(number)) for number in numbers.tolist()])

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Returns the size that an image of ``height`` x ``width`` is resized to."""
        crop_pct = self.preprocess.crop_pct
        target_height, target_width = math.floor(self.height / crop_pct), math.floor(self.width / crop_pct)
        if self.preprocess.crop_mode == "squash":
            return target_height, target_width
        is_bordered = self.preprocess.crop_mode == "border"
        if target_height == target_width and not is_bordered:  # as torchvision's Resize: cut off, not rounded
            short, long = min(height, width), max(height, width)
            new_long = int(target_height * long / short)
            return (target_height, new_long) if height <= width else (new_long, target_height)
        ratio = (max if is_bordered else min)(height / target_height, width / target_width)
        return round(height / ratio), round(width / ratio)

    def _resize(self, image: Image.Image) -> Tensor:
        """Returns uint8 C H W."""
        image = to_channels(image, self.channels)
        height, width = self._resized(image.height, image.width)
        check_pixels(width, height, f"image of {image.width} x {image.height}", "resized to one")
        return to_pixels(image.resize((width, height), _FILTERS[self.preprocess.interpolation]))

    def _cut(self, pixels: Tensor) -> Tensor:
        """Cuts out the centre of ``pixels`` ... H W; an odd rest is halved as torchvision's CenterCrop does."""
        height, width = pixels.shape[-2:]
        if height < self.height or width < self.width:
            top, left = max(self.height - height, 0) // 2, max(self.width - width, 0) // 2
            shape = (*pixels.shape[:-2], max(height, self.height), max(width, self.width))
            filled = self._fill.to(pixels.device).expand(shape).clone()
            filled[..., top : top + height, left : left + width] = pixels
            pixels = filled
        top = round((pixels.shape[-2] - self.height) / 2)
        left = round((pixels.shape[-1] - self.width) / 2)
        return pixels[..., top : top + self.height, left : left + self.width]

    def _adapt(self, pixels: Tensor) -> Tensor:
        """Returns ``pixels`` B C H W with this transform's number of channels: as :func:`to_channels`."""
        channels = pixels.shape[1]
        if channels == self.channels:
            return pixels
        if channels == 1:
            return pixels.expand(-1, self.channels, -1, -1)
        if channels == 3 and self.channels == 1:
            red, green, blue = pixels.to(torch.int32).unbind(1)
            luma = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16  # Pillow's integers
            return luma.to(torch.uint8)[:, None]
        raise DataError(f"Images with {channels} channels, but the network expects {self.channels}.")

    def _normalize(self, pixels: Tensor) -> Tensor:
        """Returns float32 of uint8 ... C H W. Three roundings, as ToTensor and Normalize have them."""
        if pixels.device not in self._constants:
            mean = torch.tensor(self.preprocess.mean, device=pixels.device)[:, None, None]
            std = torch.tensor(self.preprocess.std, device=pixels.device)[:, None, None]
            # A tensor, since CUDA multiplies by the reciprocal of a number.
            self._constants[pixels.device] = torch.tensor(255.0, device=pixels.device), mean, std
        scale, mean, std = self._constants[pixels.device]
        return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(scale).sub_(mean).div_(std)


Picture = Image.Image | str | Path | np.ndarray[Any, np.dtype[np.uint8]] | Tensor
"""An image: Pillow's, a file, a uint8 array H W C or H W, a uint8 tensor C H W, or a batch B C H W."""


def training_transform(preprocess: Preprocess) -> Callable[[Picture], Tensor]:
    """Returns random crops, flips of colour images and normalisation, as the recipe for the user's own images has them.

    A ``Compose`` of torchvision's transforms, which draw from torch's global generator.
    """
    try:
        from torchvision.transforms import v2
    except ImportError:
        raise MissingExtraError.of("A transform for training", "torchvision", "zoo-vision[data]") from None
    channels, *size = preprocess.input_size
    filters = {"interpolation": v2.InterpolationMode(preprocess.interpolation), "antialias": True}

    def adapt(image: Picture) -> Image.Image | Tensor:
        picture = as_picture(image, channels)
        return to_channels(picture, channels) if isinstance(picture, Image.Image) else picture

    transform: Callable[[Picture], Tensor] = v2.Compose(
        [
            v2.Lambda(adapt, object),
            v2.RGB() if channels == 3 else v2.Grayscale(),
            v2.RandomResizedCrop(size, scale=OWN_SCALE, **filters),
            *([v2.RandomHorizontalFlip()] if channels == 3 else []),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(preprocess.mean, preprocess.std),
            v2.ToPureTensor(),
        ]
    )
    return transform


def as_picture(image: Picture, channels: int) -> Image.Image | Tensor:
    """Returns ``image`` as Pillow's, a file with ``channels``, or as its uint8 tensor; raises :class:`DataError`."""
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, str | Path):
        return read_image(Path(image), str(image), channels)
    if isinstance(image, Tensor):
        if image.dtype == torch.uint8 and image.ndim in (3, 4):
            return image
        raise _unusable(image, "a uint8 tensor C H W or B C H W")
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3, 4))):
            return Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
        raise _unusable(image, "a uint8 array H W or H W C with 1, 3 or 4 channels")
    raise DataError(f"Got {type(image).__name__}, expected a Pillow image, a path, a uint8 array or a uint8 tensor.")


def _unusable(image: Any, expected: str) -> DataError:
    return DataError(f"Got {image.dtype} of shape {tuple(image.shape)}, expected {expected}.")
