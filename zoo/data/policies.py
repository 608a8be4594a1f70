"""Augmentation by torchvision's transforms, each draw of which follows from a seed.

They draw from torch's global generator, which is seeded for each image and restored afterwards.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.data.augmentation import Augmentation
from zoo.errors import MissingExtraError


class Policies:
    """Those of ``settings`` that torchvision implements, for images of ``classes`` classes.

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
        """uint8 B C H W of ``pixels`` uint8 B C H W, each image by its own seed."""
        for transform in self._vary:
            pixels = _each(transform, pixels, seeds)
        return pixels

    def erase(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """Sets a random rectangle to 0 in some of the normalised ``images``, float B C H W."""
        return images if self._erase is None else _each(self._erase, images, seeds)

    def mix(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Images of a batch mixed with one another, and the shares of their classes.

        ``labels``, int64 B, become float B K if the settings mix images, whether this batch is mixed or not.
        """
        if self._mix is None:
            return images, labels
        with _drawing(seed):
            images, mixed = self._mix(images, labels)
        return images, mixed if mixed.ndim == 2 else F.one_hot(mixed, self._classes).float()


def _each(transform: Callable[[Tensor], Tensor], images: Tensor, seeds: Sequence[int]) -> Tensor:
    made = []
    for image, seed in zip(images, seeds, strict=True):
        with _drawing(seed):
            made.append(transform(image))
    return torch.stack(made)


@contextmanager
def _drawing(seed: int) -> Iterator[None]:
    """Within it, torch's generator on the CPU draws as ``seed`` says: the only one that these transforms use."""
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(before)
