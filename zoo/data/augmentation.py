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

    Args:
        degrees: Rotation, uniform in +- this angle.
        translate: Shift along each axis, uniform in +- this share of the side.
        scale: Lowest and highest scale factor.
        shear: Horizontal shear in degrees, uniform in +- this angle.
    """

    degrees: Annotated[float, Meta(ge=0, le=180)] = 0.0
    translate: Annotated[float, Meta(ge=0, le=1)] = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear: Annotated[float, Meta(ge=0, lt=90)] = 0.0

    def _check(self) -> None:
        low, high = self.scale
        self.require(0 < low <= high, f"scale {self.scale} must be (low, high) with 0 < low <= high")


class ResizedCrop(Spec, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Ranges of a random crop of the original image, resized to the network's input.

    Args:
        scale: Area as a share of the image's, uniform.
        ratio: Aspect ratio, width over height, log-uniform.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def _check(self) -> None:
        low, high = self.scale
        self.require(0 < low <= high <= 1, f"scale {self.scale} must be (low, high) with 0 < low <= high <= 1")
        low, high = self.ratio
        self.require(0 < low <= high, f"ratio {self.ratio} must be (low, high) with 0 < low <= high")


class ColorJitter(Spec, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Ranges of random changes of colour.

    Args:
        brightness: The factor is within 1 +- this value.
        contrast: The factor is within 1 +- this value.
        saturation: The factor is within 1 +- this value.
        hue: Shift within +- this share of the circle of hues.
    """

    brightness: NotNegative = 0.0
    contrast: NotNegative = 0.0
    saturation: NotNegative = 0.0
    hue: Annotated[float, Meta(ge=0, le=0.5)] = 0.0


class RandAugment(Spec, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Random operations per image (Cubuk et al. 2019, arXiv 1909.13719).

    Args:
        number: How many.
        magnitude: How strong, from 0 to 30.
    """

    number: Annotated[int, Meta(ge=1)] = 2
    magnitude: Annotated[int, Meta(ge=0, le=30)] = 9


class Augmentation(Spec, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Augmentation of training images, random for each image, in this order; off by default.

    Args:
        redraw: Draw the images of a data set that is drawn at random (``ImageSet.redraw``) anew in every epoch.
        resized_crop: Random crop, instead of resizing and centre crop.
        pad_crop: Pixels to add on every side before a random crop of the old size.
        padding: What the added pixels show.
        flip: Flip left to right with probability 1/2; ``"alternate"`` at random for each image in the first epoch, then
            alternating (Jordan 2024, arXiv 2404.00498).
        affine: Random rotation, shift, scale and shear.
        pca_color: Standard deviation of random multiples of the principal components of ImageNet's colours, which are
            added to all pixels (Krizhevsky et al. 2012, section 4.1: 0.1).
        cutout: Side of a black square around a random pixel, clipped at the border.
        color_jitter: Random changes of colour, by torchvision.
        rand_augment: Random operations, by torchvision.
        trivial_augment: One random operation per image, by torchvision (Müller and Hutter 2021, arXiv 2103.10158).
        random_erasing: Probability that a rectangle is filled with the mean colour, by torchvision (Zhong et al. 2017,
            arXiv 1708.04896).
        mixup: Alpha of mixing two images and their labels (Zhang et al. 2017, arXiv 1710.09412).
        cutmix: Alpha of pasting a part of another image and mixing the labels (Yun et al. 2019, arXiv 1905.04899).
        mix_probability: Share of the batches that are mixed.
        cutmix_share: With ``mixup`` and ``cutmix``: share of the mixed batches that CutMix mixes.
    """

    redraw: bool = False
    resized_crop: ResizedCrop | None = None
    pad_crop: Count = 0
    padding: Literal["zero", "reflect"] = "zero"
    flip: bool | Literal["alternate"] = False
    affine: Affine | None = None
    pca_color: NotNegative = 0.0
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

    def _check(self) -> None:
        self.require(
            not (self.rand_augment and self.trivial_augment), "rand_augment and trivial_augment exclude each other"
        )
