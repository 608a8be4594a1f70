"""Transforms for the user's own data sets: as a network expects its input, for evaluation and for training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.data.augmentation import OWN_SCALE
from zoo.data.decode import read_image
from zoo.data.preprocess import Transform
from zoo.errors import DataError, MissingExtraError
from zoo.spec import Preprocess

Picture = Image.Image | str | Path | np.ndarray[Any, np.dtype[np.uint8]] | Tensor
"""An image: Pillow's, a file, a uint8 array H W C or H W, a uint8 tensor C H W, or a batch B C H W."""


class EvaluationTransform:
    """:class:`Transform` for any :data:`Picture`, with the same values."""

    def __init__(self, preprocess: Preprocess) -> None:
        self._transform = Transform(preprocess)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._transform.preprocess!r})"

    def __call__(self, image: Picture) -> Tensor:
        """float32 C H W, or B C H W of a batch."""
        opened = as_picture(image, self._transform.channels)
        if isinstance(opened, Image.Image):
            return self._transform(opened)
        pixels = opened.as_subclass(Tensor)  # of torchvision's tv_tensors
        return self._transform.batch(pixels) if pixels.ndim == 4 else self._transform.batch(pixels[None])[0]


def training_transform(preprocess: Preprocess) -> Callable[[Picture], Tensor]:
    """Random crops, flips of colour images and normalisation, as the recipe for the user's own images has them.

    A ``Compose`` of torchvision's transforms, which draw from torch's global generator.
    """
    try:
        from torchvision.transforms import v2
    except ImportError:
        raise MissingExtraError.of("A transform for training", "torchvision", "zoo-vision[data]") from None
    channels, *size = preprocess.input_size
    filters = {"interpolation": v2.InterpolationMode(preprocess.interpolation), "antialias": True}
    transform: Callable[[Picture], Tensor] = v2.Compose(
        [
            v2.Lambda(lambda image: as_picture(image, channels), object),
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
    """``image`` as Pillow's, a file with ``channels``, or the uint8 tensor that it is; raises :class:`DataError`."""
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
