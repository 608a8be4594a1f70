"""The augmentation settings of a recipe; does not import torch."""

from typing import Annotated, Literal

from msgspec import Meta

from zoo.spec import Spec

Count = Annotated[int, Meta(ge=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Probability = Annotated[float, Meta(ge=0, le=1)]

OWN_SCALE = (0.35, 1.0)
"""Range of the area of a random crop of the user's own images, as a share of the image."""


class Affine(Spec, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Ranges of a random affine map around the image's centre, drawn for each image.

    Rotation and horizontal shear are uniform in +- ``degrees`` and +- ``shear`` (degrees), the shift along each axis in
    +- ``translate`` times that side, the scale factor in ``scale``.
    """

    degrees: Annotated[float, Meta(ge=0, le=180)] = 0.0
    translate: Annotated[float, Meta(ge=0, le=1)] = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear: Annotated[float, Meta(ge=0, lt=90)] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.scale
        self.require(0 < low <= high, f"scale {self.scale} must be (low, high) with 0 < low <= high")


class ResizedCrop(Spec, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Ranges of a random crop of the original image, resized to the network's input.

    Its area is uniform in ``scale`` times the image's, its aspect ratio (width over height) log-uniform in ``ratio``.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.scale
        self.require(0 < low <= high <= 1, f"scale {self.scale} must be (low, high) with 0 < low <= high <= 1")
        low, high = self.ratio
        self.require(0 < low <= high, f"ratio {self.ratio} must be (low, high) with 0 < low <= high")


class ColorJitter(Spec, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Ranges of random changes of colour: factors within 1 +- each value, the hue within +- ``hue`` of its circle."""

    brightness: NotNegative = 0.0
    contrast: NotNegative = 0.0
    saturation: NotNegative = 0.0
    hue: Annotated[float, Meta(ge=0, le=0.5)] = 0.0


class RandAugment(Spec, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``number`` random operations per image, of strength ``magnitude`` (Cubuk et al. 2019, arXiv 1909.13719)."""

    number: Annotated[int, Meta(ge=1)] = 2
    magnitude: Annotated[int, Meta(ge=0, le=30)] = 9


class Augmentation(Spec, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Augmentation of training images, random for each image, in this order; off by default.

    ``redraw``: for a data set whose images are drawn at random (``ImageSet.redraw``), every epoch sees new draws;
    ``resized_crop``, instead of resizing and centre crop; ``affine``; ``pad_crop`` pixels of ``padding`` on every side
    and a random crop of the old size; ``flip`` left to right with probability 1/2 or, ``"alternate"``, at random for
    each image in the first epoch and alternating in the following ones (Jordan 2024, arXiv 2404.00498);
    ``cutout``, a black square of that side around a random pixel, clipped at the border.

    Then torchvision's transforms: ``color_jitter``; ``rand_augment``; ``trivial_augment``, one random operation per
    image (Müller and Hutter 2021, arXiv 2103.10158); ``random_erasing``, the probability that a rectangle of an image
    is filled with the mean (Zhong et al. 2017, arXiv 1708.04896). ``mixup`` and ``cutmix`` are the alpha of mixing the
    images of a batch, and their labels (Zhang et al. 2017, arXiv 1710.09412; Yun et al. 2019, arXiv 1905.04899): a
    batch is mixed with ``mix_probability``; with both, by CutMix with probability ``cutmix_share``.
    """

    redraw: bool = False
    resized_crop: ResizedCrop | None = None
    pad_crop: Count = 0
    padding: Literal["zero", "reflect"] = "zero"
    flip: bool | Literal["alternate"] = False
    affine: Affine | None = None
    cutout: Count = 0
    color_jitter: ColorJitter | None = None
    rand_augment: RandAugment | None = None
    trivial_augment: bool = False
    random_erasing: Probability = 0.0
    mixup: NotNegative = 0.0
    cutmix: NotNegative = 0.0
    mix_probability: Probability = 1.0
    cutmix_share: Probability = 0.5

    @property
    def mixes(self) -> bool:
        """Whether labels become shares of classes."""
        return bool(self.mixup or self.cutmix)

    @property
    def uses_torchvision(self) -> bool:
        return bool(self.color_jitter or self.rand_augment or self.trivial_augment or self.random_erasing or self.mixes)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(
            not (self.rand_augment and self.trivial_augment), "rand_augment and trivial_augment exclude each other"
        )
