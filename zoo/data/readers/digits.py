"""scikit-learn's handwritten digits: 1,797 real 8 x 8 images from its wheel, without download."""

import torch

from zoo.data.classes import class_names
from zoo.data.image_set import ImageSet
from zoo.data.stratify import stratified_split
from zoo.errors import MissingExtraError

TEST_IMAGES = 360


def read(split: str) -> ImageSet:
    """``train`` (1,437 images) or ``test`` (360), each in scikit-learn's order, uint8 N 1 8 8.

    The data set has no split of its own: this one is stratified and drawn by sha256 (see
    ``zoo.data.stratify``, salt ``digits``). Its grey levels 0 ... 16 become ``(255 * level + 8) // 16``,
    that is ``255 * level / 16`` rounded, halves upwards.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingExtraError.of("The data set digits", "scikit-learn", "zoo-vision[data]") from None
    bunch = load_digits()
    levels = torch.from_numpy(bunch.images).to(torch.int64)[:, None]  # N 8 8 -> N 1 8 8
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    train, test = stratified_split(labels, TEST_IMAGES, "digits")
    chosen = train if split == "train" else test
    pixels = ((255 * levels + 8) // 16).to(torch.uint8)
    return ImageSet("digits", split, class_names("digits"), labels[chosen], pixels[chosen], origin="scikit-learn")
