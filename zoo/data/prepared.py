"""Batches that are ready for a network: of a torch data loader that prepares images itself."""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any, ClassVar

import torch
from torch import Tensor

from zoo.data.image_set import check_labels
from zoo.errors import DataError


class PreparedBatches:
    """Batches of float images B C H W and integer labels B, which can be read once.

    ``fingerprint`` is a sha256 over the images and labels read so far. ``total`` is the number of images, 0 if it is
    unknown.
    """

    pixels: ClassVar[None] = None
    """As of an ``ImageSet`` that is not resident."""

    def __init__(
        self, batches: Iterable[Any], *, name: str, split: str, classes: tuple[str, ...], channels: int, total: int = 0
    ) -> None:
        self.name = name
        self.split = split
        self.classes = classes
        self.total = total
        self._batches = batches
        self._channels = channels
        self._hash = sha256()

    @property
    def fingerprint(self) -> str:
        return f"inputs sha256:{self._hash.hexdigest()}"

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches, float32 and int64; raises :class:`DataError` if one is not suitable."""
        done = 0
        for batch in self._batches:
            images, labels = as_pair(batch, f"{self.name}, batch from image {done}")
            labels = as_labels(labels, len(images), self.name)
            if not images.is_floating_point() or images.ndim != 4 or images.shape[1] != self._channels:
                raise DataError(
                    f"{self.name}: images are {images.dtype} of shape {tuple(images.shape)}, expected float "
                    f"B {self._channels} H W.",
                    hint="Prepare them with zoo.transforms(model).",
                )
            check_labels(labels, len(self.classes), self.name)
            images = images.detach().float()
            for image, label in zip(images.cpu().contiguous().numpy(), labels.numpy(), strict=True):
                self._hash.update(image)
                self._hash.update(label)
            done += len(labels)
            yield images, labels
        if done == 0:
            raise DataError(f"{self.name}: no images.")


def as_pair(batch: Any, where: str) -> tuple[Tensor, Any]:
    """``batch`` as (images, labels); raises :class:`DataError` naming ``where``."""
    if isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[0], Tensor):
        return batch[0], batch[1]
    raise DataError(
        f"{where}: got {describe(batch)}, expected a pair (images, labels).",
        hint="A network is scored and trained on labelled images.",
    )


def as_labels(labels: Any, count: int, where: str) -> Tensor:
    """``labels`` as int64 ``count``; raises :class:`DataError` naming ``where``."""
    found = labels if isinstance(labels, Tensor) else torch.as_tensor(labels)
    is_integer = not found.is_floating_point() and not found.is_complex() and found.dtype != torch.bool
    if not is_integer or tuple(found.shape) != (count,):
        raise DataError(
            f"{where}: labels are {found.dtype} of shape {tuple(found.shape)}, expected one integer per image."
        )
    return found.detach().cpu().long()


def describe(value: Any) -> str:
    """The type of ``value``, and of what it holds if it is a tuple or a list."""
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} of ({', '.join(type(part).__name__ for part in value)})"
    return type(value).__name__
