"""The preparation of images for a network, with the usual values."""

from collections.abc import Mapping
from math import inf, isfinite
from typing import Any, Literal

from zoo.spec.checked import Spec

MOST_CHANNELS, LONGEST_SIDE = 1024, 8192
"""The longest side of an input: a file that says more would have memory taken before it is seen not to fit."""


class Preprocess(Spec, frozen=True):
    """The preparation of an image as the network's input.

    The image is turned as its EXIF says and laid on white where it is transparent; colour profiles are ignored. It is
    resized and cropped, its values are brought to [0, 1], then ``(x - mean) / std`` is taken per channel.

    Args:
        input_size: Channels, height and width.
        crop_pct: Share of the resized image that is cut out: it is resized to ``floor(size / crop_pct)``.
        interpolation: How it is resized.
        mean: A number for each channel.
        std: A number for each channel.
        whitening: ``zca`` if the network has a whitening transform of its own (``zoo.data.whitening``).
        crop_mode: ``center`` resizes the shorter side and cuts out the centre, with black around a smaller image.
            ``border`` resizes the longer side and fills up with the mean colour. ``squash`` resizes both sides.

    Raises:
        SpecError: A value is not valid.

    Example:
        >>> import zoo
        >>> zoo.Preprocess(input_size=(1, 28, 28), crop_pct=1.0, mean=(0.1307,), std=(0.3081,)).interpolation
        'bilinear'
    """

    input_size: tuple[int, int, int] = (3, 224, 224)
    crop_pct: float = 0.875
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    whitening: Literal["none", "zca"] = "none"
    crop_mode: Literal["center", "squash", "border"] = "center"

    def _check(self) -> None:
        channels, height, width = self.input_size
        self.require(channels > 0 and height > 0 and width > 0, f"input_size {self.input_size} must be positive")
        is_bounded = channels <= MOST_CHANNELS and max(height, width) <= LONGEST_SIDE
        self.require(
            is_bounded, f"input_size {self.input_size} is more than {MOST_CHANNELS} channels of {LONGEST_SIDE} pixels"
        )
        self.require(0 < self.crop_pct < 2, f"crop_pct {self.crop_pct} must be in (0, 2): a fraction of the side")
        self.require(
            len(self.mean) == len(self.std) == channels,
            f"{len(self.mean)} means and {len(self.std)} stds for {channels} channels",
        )
        self.require(all(map(isfinite, self.mean)), f"mean {self.mean} must be finite")
        self.require(all(0 < s < inf for s in self.std), f"std {self.std} must be positive and finite")


IMAGENET = Preprocess()
"""The usual values for ImageNet: 224 pixels, the data set's mean and deviation."""
CIFAR10 = Preprocess(input_size=(3, 32, 32), crop_pct=1.0, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
CIFAR10_IMAGE_STD: Mapping[str, Any] = {
    "input_size": CIFAR10.input_size,
    "crop_pct": CIFAR10.crop_pct,
    "mean": CIFAR10.mean,
    "std": (0.2023, 0.1994, 0.2010),
}
"""A deviation for a ``KeyMap``: many public checkpoints divide by the mean of the images' own deviations."""
MNIST = Preprocess(input_size=(1, 28, 28), crop_pct=1.0, mean=(0.1307,), std=(0.3081,))
STD_255 = (1 / 255, 1 / 255, 1 / 255)
"""A ``std`` by which pixels stay in [0, 255], less their mean."""


def unscaled(channels: int, side: int, **changes: Any) -> Preprocess:
    """Pixels in [0, 1] as they are, black 0, from images of ``side`` pixels; ``changes`` are other fields."""
    size = (channels, side, side)
    return Preprocess(input_size=size, crop_pct=1.0, mean=(0.0,) * channels, std=(1.0,) * channels, **changes)
