"""Stratified splits that are the same on every machine."""

import hashlib

import torch
from torch import Tensor

from zoo.data.image_set import ImageSet
from zoo.errors import DataError


def hold_out(images: ImageSet, count: int, seed: int) -> tuple[ImageSet, ImageSet]:
    """Holds out some of the images, in proportion to the classes.

    Which images are held out depends on the labels and on ``seed`` alone.

    Args:
        images: The images.
        count: How many to hold out.
        seed: Decides which.

    Returns:
        The other images, and those held out as the split ``validation``.

    Raises:
        DataError: ``count`` leaves no images on one side.

    Example:
        >>> import zoo
        >>> rest, held_out = zoo.data.hold_out(zoo.data.load("digits"), 100, seed=0)
        >>> len(rest), len(held_out)
        (1337, 100)
    """
    rest, chosen = stratified_split(images.labels, count, f"hold out {seed}")
    return images.subset(rest, images.split), images.subset(chosen, "validation")


def stratified_split(labels: Tensor, count: int, salt: str) -> tuple[Tensor, Tensor]:
    """Indices (rest, chosen), each ascending, with ``count`` chosen in proportion to the classes.

    Within a class, those are chosen whose ``sha256("<salt> <index>")`` is least, so no library's
    random generator has a say. Raises :class:`DataError` if ``count`` leaves nothing on a side.
    """
    total = len(labels)
    if not 0 < count < total:
        raise DataError(f"{count} of {total} images cannot be held out: at least one must remain on each side.")
    sizes = torch.bincount(labels).tolist()
    # Largest remainders: the floors first, then one more where the most was cut off.
    quotas = [size * count // total for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda label: (-(sizes[label] * count % total), label))
    for label in by_remainder[: count - sum(quotas)]:
        quotas[label] += 1
    order = sorted(range(total), key=lambda index: hashlib.sha256(f"{salt} {index}".encode()).digest())
    is_chosen = torch.zeros(total, dtype=torch.bool)
    values = labels.tolist()
    for index in order:
        if quotas[values[index]] > 0:
            quotas[values[index]] -= 1
            is_chosen[index] = True
    return (~is_chosen).nonzero()[:, 0], is_chosen.nonzero()[:, 0]
