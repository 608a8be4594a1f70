"""Transforms of training images between decoding and the network."""

from collections.abc import Iterable

import msgspec
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from zoo.data.augment import Augment, Policies, draw_window
from zoo.data.image_set import ImageSet
from zoo.data.preprocess import Transform
from zoo.data.stream import ImageStream
from zoo.spec import Preprocess
from zoo.training.randomness import derive_seed, generator_at
from zoo.training.recipe import Recipe


class TrainTransform:
    """Cut-out, augmentation and normalisation of ``images`` as ``recipe`` and ``preprocess`` say.

    All follows from (seed, epoch, step) and from an image's number. Of each batch of ``size`` images,
    this process varies its ``share``, in the way that one process alone would.
    """

    def __init__(
        self,
        recipe: Recipe,
        preprocess: Preprocess,
        images: ImageSet | ImageStream,
        share: range,
        size: int,
        device: torch.device,
    ) -> None:
        self._seed = recipe.seed
        self._settings = recipe.augment
        self._progressive, self._epochs = recipe.progressive, recipe.epochs
        self._part = share, size
        self._cut = Transform(preprocess)
        self._normalise = Transform(msgspec.structs.replace(preprocess, crop_pct=1.0))
        self._policies = Policies(recipe.augment, len(images.classes)) if recipe.augment.uses_torchvision else None
        self._first_mirrored: Tensor | None = None
        if recipe.augment.flip == "alternate":
            draw = torch.rand(len(images), generator=generator_at(recipe.seed, "flip"))
            self._first_mirrored = (draw < 0.5).to(device)

    def cut(self, image: Image.Image, epoch: int, number: int) -> Tensor:
        """Image ``number`` at the network's input size, uint8 C H W: its centre, or a window drawn anew each epoch."""
        if self._settings.resized_crop is None:
            return self._cut.pixels(image)
        generator = generator_at(self._seed, "window", epoch, number)
        window = draw_window(self._settings.resized_crop, image.height, image.width, generator)
        return self._cut.pixels(image, window)

    def batch(self, pixels: Tensor, numbers: Tensor, labels: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """The network's input, float32 B C H W, and its labels.

        ``pixels`` are uint8 B C H W of the images ``numbers``, int64 B. If the recipe mixes images, their ``labels``,
        int64 B, become shares of the classes, float32 B K.
        """
        augment = Augment(self._settings, generator_at(self._seed, "augment", epoch, step), self._part)
        is_mirrored = None if self._first_mirrored is None else self._first_mirrored[numbers] ^ bool(epoch % 2)
        pixels = augment(pixels, is_mirrored)
        images, labels = self._normalised(pixels, numbers, labels, epoch, step)
        return self._resized(images, epoch), labels

    def _normalised(
        self, pixels: Tensor, numbers: Tensor, labels: Tensor, epoch: int, step: int
    ) -> tuple[Tensor, Tensor]:
        """Normalised images, float32 B C H W, after torchvision's changes, and their labels."""
        if self._policies is None:
            return self._normalise.batch(pixels), labels
        vary, erase = (
            [derive_seed(self._seed, purpose, epoch, number) for number in numbers.tolist()]
            for purpose in ("vary", "erase")
        )
        images = self._policies.erase(self._normalise.batch(self._policies.vary(pixels, vary)), erase)
        share, _ = self._part
        return self._policies.mix(images, labels, derive_seed(self._seed, "mix", epoch, step, share.start))

    def _resized(self, images: Tensor, epoch: int) -> Tensor:
        """``images`` at the size that progressive resizing has reached."""
        if self._progressive is None:
            return images
        size = [self._progressive.side(side, epoch, self._epochs) for side in images.shape[2:]]
        if size == list(images.shape[2:]):
            return images
        return F.interpolate(images, size, mode="bilinear", antialias=True)


def to_batch(images: Iterable[Tensor]) -> Tensor:
    """B C H W of images C H W that lie in memory as H W C, as decoders leave them, and the batch does.

    In this thread alone: torch would share each image's copy out to all of its threads, which wait for
    one another while the decoders hold the cores.
    """
    return torch.from_numpy(np.stack([image.permute(1, 2, 0).numpy() for image in images])).permute(0, 3, 1, 2)
