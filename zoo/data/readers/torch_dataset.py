"""Torch data sets of labelled images, and data loaders, as Zoo's own."""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import chain
from threading import Lock
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from zoo.data.image_file import count_channels, to_channels, to_image, to_pixels
from zoo.data.image_set import MAX_RESIDENT_BYTES, ImageSet, check_labels
from zoo.data.preprocess import as_picture
from zoo.errors import DataError

Source = Dataset[Any] | DataLoader[Any]

_BATCH = 256
"""Images of a data set that are scored at once."""

_HINT = "Zoo prepares and augments images itself: leave out the data set's own transform."


class PreparedBatches:
    """Batches of float images B C H W and integer labels B, which can be read once.

    ``fingerprint`` is a sha256 over the images and labels read so far. ``total`` is the number of images, 0 if it is
    unknown.
    """

    pixels: ClassVar[None] = None
    """None, as of an ``ImageSet`` that is not resident."""

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
        """Yields the batches, float32 and int64; raises :class:`DataError` if one is not suitable."""
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


def from_dataset(
    dataset: Source, *, name: str = "", split: str = "train", classes: tuple[str, ...] | None = None
) -> ImageSet:
    """Reads labelled images of a torch data set, or of a data loader.

    Every item is read once. Images of one size stay in memory, others are read again when they are needed, one at a
    time, so random transforms do not belong in the data set.

    Args:
        dataset: Its items are (image, label): a Pillow image, a uint8 tensor C H W or a uint8 array H W C, and an
            integer. Or a data loader, whose batches are (uint8 tensor B C H W, integers B).
        name: The name of the data set. By default that of its type.
        split: The name of the split.
        classes: The names of the classes. By default its ``classes``, or else numbers up to the largest label.

    Returns:
        The labelled images.

    Raises:
        DataError: An item is not an image with a label, or there is none.

    Example:
        >>> import torch, zoo
        >>> pixels, labels = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 1, 0])
        >>> images = zoo.data.from_dataset(torch.utils.data.TensorDataset(pixels, labels))
        >>> len(images), images.classes
        (4, ('0', '1'))
    """
    name = name or name_of(dataset)
    names = classes or classes_of(dataset)
    if isinstance(dataset, DataLoader):
        pixels, labels = _collect(dataset, name)
        return ImageSet(name, split, names or _numbers(labels), labels, pixels)
    _check_indexed(dataset, name)
    items = _Items(dataset, name)
    pictures: list[Tensor] | None = []
    values: list[int] = []
    channels, size = 1, 0
    for index in range(len(items)):
        image, label = items.read(index)
        values.append(label)
        channels = max(channels, count_channels(image))
        if pictures is not None:
            pictures.append(to_pixels(to_channels(image, count_channels(image), items.where(index))))
            size += pictures[-1].numel()
            if pictures[-1].shape[1:] != pictures[0].shape[1:] or size > MAX_RESIDENT_BYTES:
                pictures = None
    items.channels = channels
    labels = torch.tensor(values, dtype=torch.int64)
    resident = torch.stack([picture.expand(channels, -1, -1) for picture in pictures]) if pictures else None
    read = items if resident is None else None
    return ImageSet(name, split, names or _numbers(labels), labels, resident, read=read, channels=channels)


def prepared(dataset: Source, *, split: str, classes: tuple[str, ...], channels: int) -> PreparedBatches | None:
    """Returns the batches of a data set of ``classes`` whose images are float tensors; None if they are not."""
    name = name_of(dataset)
    if isinstance(dataset, DataLoader):
        batches, first = _peek(dataset, name)
        source: Any = dataset.dataset
    else:
        _check_indexed(dataset, name)
        source = dataset
        item = source[0] if len(source) else None
        if not (isinstance(item, tuple | list) and item and isinstance(item[0], Tensor)):
            return None
        first, batches = item[0], iter(DataLoader(dataset, _BATCH))
    if not first.is_floating_point():
        return None
    total = len(source) if hasattr(source, "__len__") else 0
    return PreparedBatches(batches, name=name, split=split, classes=classes, channels=channels, total=total)


def check(data: object) -> None:
    """Raises :class:`DataError` if ``data`` is neither a data set nor a data loader of torch."""
    if not isinstance(data, Dataset | DataLoader):
        raise DataError(
            f"Got {describe(data)}, expected the name or path of a data set, an ImageSet, or a Dataset or DataLoader "
            "of torch."
        )


def name_of(dataset: Source) -> str:
    """Returns the name of the type of the data set, without what wraps it."""
    return type([*_layers(dataset)][-1]).__name__


def classes_of(dataset: Source) -> tuple[str, ...]:
    """Returns the names in the attribute ``classes``; () if there is none."""
    for layer in _layers(dataset):
        if isinstance(names := getattr(layer, "classes", None), tuple | list):
            return tuple(map(str, names))
    return ()


def _layers(dataset: Any) -> Iterator[Any]:
    """Yields ``dataset`` and the data sets that it wraps, such as that of a loader or of a subset."""
    while isinstance(dataset, Dataset | DataLoader):
        yield dataset
        dataset = getattr(dataset, "dataset", None)


def _numbers(labels: Tensor) -> tuple[str, ...]:
    return tuple(map(str, range(int(labels.max()) + 1))) if len(labels) else ()


def _check_indexed(dataset: Dataset[Any], name: str) -> None:
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise DataError(
            f"{name} has no length, so its images cannot be read by number.", hint="Wrap it in a DataLoader."
        )


def _peek(loader: DataLoader[Any], name: str) -> tuple[Iterator[Any], Tensor]:
    """Returns all batches, and the images of the first."""
    batches = iter(loader)
    first = next(batches, None)
    if first is None:
        raise DataError(f"{name}: no images.")
    images, _ = as_pair(first, f"{name}, first batch")
    return chain([first], batches), images


def _collect(loader: DataLoader[Any], name: str) -> tuple[Tensor, Tensor]:
    """Collects all pixels, uint8 N C H W, and labels, int64 N."""
    parts: list[tuple[Tensor, Tensor]] = []
    size = 0
    batches, _ = _peek(loader, name)
    for batch in batches:
        images, labels = as_pair(batch, name)
        if images.dtype != torch.uint8 or images.ndim != 4 or (parts and images.shape[1:] != parts[0][0].shape[1:]):
            expected = f"uint8 B {' '.join(map(str, parts[0][0].shape[1:]))}" if parts else "uint8 B C H W"
            raise DataError(
                f"{name}: images are {images.dtype} of shape {tuple(images.shape)}, expected {expected}.", hint=_HINT
            )
        parts.append((images.cpu(), as_labels(labels, len(images), name)))
        size += images.numel()
        if size > MAX_RESIDENT_BYTES:
            raise DataError(f"{name}: more than {MAX_RESIDENT_BYTES:,} bytes of images.", hint="Pass the data set.")
    pixels, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return pixels, labels


class _Items:
    """The images of a data set by number; one at a time, since data sets need not support threads."""

    def __init__(self, dataset: Any, name: str) -> None:
        self._dataset = dataset
        self._name = name
        self._lock = Lock()
        self.channels = 3

    def __len__(self) -> int:
        return len(self._dataset)

    def __call__(self, index: int) -> Image.Image:
        return to_channels(self.read(index)[0], self.channels, self.where(index))

    def where(self, index: int) -> str:
        return f"{self._name}, item {index}"

    def read(self, index: int) -> tuple[Image.Image, int]:
        with self._lock:
            item = self._dataset[index]
        where = self.where(index)
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise DataError(f"{where}: got {describe(item)}, expected a pair (image, label).")
        image, label = item
        if isinstance(image, Tensor) and image.is_floating_point():
            raise DataError(f"{where}: the image is {image.dtype}, expected 8 bits per channel.", hint=_HINT)
        if isinstance(image, Tensor) and (image.dtype != torch.uint8 or image.ndim != 3):
            raise DataError(f"{where}: the image is {image.dtype} of shape {tuple(image.shape)}, expected uint8 C H W.")
        if not isinstance(image, Image.Image | Tensor | np.ndarray):
            raise DataError(f"{where}: got {describe(item)}, expected a pair (image, label).")
        picture = as_picture(image, 3)
        if not isinstance(label, Tensor | int | np.integer) or isinstance(label, bool):
            raise DataError(f"{where}: the label is {describe(label)}, expected an integer.")
        numbers = as_labels(torch.as_tensor(label).reshape(-1), 1, where)
        return to_image(picture) if isinstance(picture, Tensor) else picture, int(numbers)


def as_pair(batch: Any, where: str) -> tuple[Tensor, Any]:
    """Returns ``batch`` as (images, labels); raises :class:`DataError` naming ``where``."""
    if isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[0], Tensor):
        return batch[0], batch[1]
    raise DataError(
        f"{where}: got {describe(batch)}, expected a pair (images, labels).",
        hint="A network is scored and trained on labelled images.",
    )


def as_labels(labels: Any, count: int, where: str) -> Tensor:
    """Returns ``labels`` as int64 ``count``; raises :class:`DataError` naming ``where``."""
    tensor = labels if isinstance(labels, Tensor) else torch.as_tensor(labels)
    is_integer = not tensor.is_floating_point() and not tensor.is_complex() and tensor.dtype != torch.bool
    if not is_integer or tuple(tensor.shape) != (count,):
        raise DataError(
            f"{where}: labels are {tensor.dtype} of shape {tuple(tensor.shape)}, expected one integer per image."
        )
    return tensor.detach().cpu().long()


def describe(value: Any) -> str:
    """Returns the type of ``value``, and of what it holds if it is a tuple or a list."""
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} of ({', '.join(type(part).__name__ for part in value)})"
    return type(value).__name__
