"""``ImageSet``: labelled images, resident as uint8 if they share one size; parts and statistics of it.

The fingerprint of a set is the sha256 over, image by image, its channels, height and width (three unsigned
32-bit integers), its label (a signed 64-bit integer), all little-endian, and its uint8 pixels in
C H W order. It does not depend on where or in which file format the images lie, so a copy of a set
as PNG files has the fingerprint of the original. JPEG files give the pixels of the decoder that is
installed, which may differ by a unit between versions of libjpeg.
"""

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

import torch
from PIL import Image
from torch import Tensor

from zoo.data.image_file import to_image, to_pixels
from zoo.errors import DataError

MAX_RESIDENT_BYTES = 1 << 31
"""A set larger than this is decoded image by image, on demand."""

_HEADER = struct.Struct("<IIIq")


class Fingerprint:
    """A running fingerprint: images are added by :meth:`add`; ``str()`` is ``sha256:<64 hex>``."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, pixels: Tensor, labels: Tensor) -> None:
        """Adds images in order: ``pixels`` uint8 B C H W, ``labels`` int64 B."""
        for part in _image_bytes(pixels, labels):
            self._hash.update(part)

    def __str__(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def identities(pixels: Tensor, labels: Tensor) -> Tensor:
    """Returns the sha256 of each image alone, uint8 B 32, over the bytes that :class:`Fingerprint` reads of it."""
    parts = _image_bytes(pixels, labels)
    digests = [hashlib.sha256(header + bytes(image)).digest() for header, image in zip(parts, parts, strict=True)]
    return torch.frombuffer(bytearray(b"".join(digests)), dtype=torch.uint8).view(-1, 32)


def _image_bytes(pixels: Tensor, labels: Tensor) -> Iterator[bytes]:
    """Yields the header and the pixels of each image, one after the other."""
    array = pixels.cpu().contiguous().numpy()
    for image, label in zip(array, labels.tolist(), strict=True):
        yield _HEADER.pack(*image.shape, label)
        yield image


@dataclass(frozen=True, eq=False)
class Images:
    """Images without labels, in order: what an evaluate hook answers. The fields are as in :class:`ImageSet`."""

    name: str
    split: str
    classes: tuple[str, ...]
    count: int
    channels: int
    pixels: Tensor | None = field(default=None, repr=False)
    read: Callable[[int], Image.Image] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return self.count

    def image(self, index: int) -> Image.Image:
        """Returns image ``index`` in RGB or L; raises :class:`DataError` if its file is damaged."""
        return _image(self, index)

    def subset(self, indices: Tensor | Sequence[int]) -> "Images":
        """Returns the images ``indices``, in that order."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        pixels = None if self.pixels is None else self.pixels[chosen]
        read = None if self.read is None else _Chosen(self.read, chosen.tolist())
        return replace(self, count=len(chosen), pixels=pixels, read=read)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            """Raises AttributeError that says why, above all of ``labels``."""
            raise AttributeError(
                f"zoo.data.Images have no {name!r}: a hook answers them, and the core scores the answers"
            )


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A split of a data set. ``labels`` is int64 N, each in [0, len(classes)).

    Either ``pixels`` is resident, uint8 N C H W, or ``read(i)`` decodes image i in RGB or L, depending on ``channels``.
    ``origin`` is the file or folder of the data, ``files`` the file of each image if it has one. For resident images
    that are drawn at random, ``redraw(numbers, generator)`` returns new draws of those numbered ``numbers``, int64 B,
    as uint8 B C H W; generators in the same state give the same draw of an image, whichever others are requested.
    Raises :class:`DataError` if these are inconsistent.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    labels: Tensor = field(repr=False)
    pixels: Tensor | None = field(default=None, repr=False)
    read: Callable[[int], Image.Image] | None = field(default=None, repr=False)
    channels: int = 0
    origin: str = ""
    redraw: Callable[[Tensor, torch.Generator], Tensor] | None = field(default=None, repr=False)
    files: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.labels.dtype != torch.int64 or self.labels.ndim != 1:
            self._refuse(f"labels are {self.labels.dtype} of shape {tuple(self.labels.shape)}, expected int64 N")
        if len(self) == 0:
            self._refuse("no images")
        check_labels(self.labels, len(self.classes), self.origin or f"{self.name}/{self.split}")
        if self.pixels is not None:
            shape = tuple(self.pixels.shape)
            if self.pixels.dtype != torch.uint8 or len(shape) != 4 or shape[0] != len(self):
                self._refuse(f"pixels are {self.pixels.dtype} of shape {shape}, expected uint8 ({len(self)}, C, H, W)")
            object.__setattr__(self, "channels", shape[1])
        elif self.read is None:
            self._refuse("neither pixels nor a reader")
        if self.channels not in (1, 3):
            self._refuse(f"{self.channels} channels, expected 1 or 3")
        if len(self.files) not in (0, len(self)):
            self._refuse(f"{len(self.files)} files of {len(self)} images")

    def _refuse(self, message: str) -> None:
        raise DataError(f"{self.origin or self.name} ({self.split}): {message}.")

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """Returns image ``index`` in RGB or L; raises :class:`DataError` if its file is damaged."""
        return _image(self, index)

    def without_labels(self) -> Images:
        """Returns the images alone."""
        return Images(self.name, self.split, self.classes, len(self), self.channels, self.pixels, self.read)

    def where(self, index: int) -> str:
        """Returns the file of image ``index``, or else its number."""
        return self.files[index] if self.files else f"{self.name}/{self.split} {index}"

    def encoded(self, index: int) -> bytes | None:
        """Returns the encoded file of image ``index``, if ``read`` has a method ``encoded(i)``; otherwise None."""
        return _encoded(self.read, index)

    @cached_property
    def fingerprint(self) -> str:
        """``sha256:<64 hex>`` over shapes, pixels and labels in order: see ``zoo.data.image_set``.

        If the set is not resident, this decodes every image.
        """
        fingerprint = Fingerprint()
        if self.pixels is not None:
            fingerprint.add(self.pixels, self.labels)
        else:
            for index in range(len(self)):
                fingerprint.add(to_pixels(self.image(index))[None], self.labels[index : index + 1])
        return str(fingerprint)

    @cached_property
    def identities(self) -> Tensor:
        """The sha256 of each image with its label, uint8 N 32. If the set is not resident, this decodes every image."""
        if self.pixels is not None:
            return identities(self.pixels, self.labels)
        return torch.cat([identities(to_pixels(self.image(i))[None], self.labels[i : i + 1]) for i in range(len(self))])

    def subset(self, indices: Tensor | Sequence[int], split: str) -> "ImageSet":
        """Returns the images ``indices``, in that order, as the split ``split``."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return ImageSet(
            name=self.name,
            split=split,
            classes=self.classes,
            labels=self.labels[chosen],
            pixels=None if self.pixels is None else self.pixels[chosen],
            read=None if self.read is None else _Chosen(self.read, chosen.tolist()),
            channels=self.channels,
            origin=self.origin,
            redraw=None if self.redraw is None else _Redrawn(self.redraw, chosen),
            files=tuple(self.files[index] for index in chosen.tolist()) if self.files else (),
        )


def _image(images: Images | ImageSet, index: int) -> Image.Image:
    if not -len(images) <= index < len(images):
        raise IndexError(f"image {index} of {len(images)}")
    index %= len(images)
    if images.pixels is not None:
        return to_image(images.pixels[index])
    assert images.read is not None  # as __post_init__ ensures
    return images.read(index)


@dataclass(frozen=True, eq=False)
class _Redrawn:
    redraw: Callable[[Tensor, torch.Generator], Tensor]
    indices: Tensor

    def __call__(self, numbers: Tensor, generator: torch.Generator) -> Tensor:
        return self.redraw(self.indices[numbers], generator)


@dataclass(frozen=True)
class _Chosen:
    read: Callable[[int], Image.Image]
    indices: list[int]

    def __call__(self, index: int) -> Image.Image:
        return self.read(self.indices[index])

    def encoded(self, index: int) -> bytes | None:
        return _encoded(self.read, self.indices[index])


def _encoded(read: Callable[[int], Image.Image] | None, index: int) -> bytes | None:
    find: Callable[[int], bytes | None] | None = getattr(read, "encoded", None)
    return find(index) if find is not None else None


def check_labels(labels: Tensor, classes: int, where: str) -> None:
    """Raises :class:`DataError` naming ``where`` and the first row whose label is not in [0, classes)."""
    wrong = ((labels < 0) | (labels >= classes)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise DataError(f"{where}: row {row} has label {int(labels[row])}, expected 0 to {classes - 1}.")


def thin(images: ImageSet, limit: int | None) -> ImageSet:
    """Returns ``limit`` of ``images`` at equal distances, which covers all classes of a sorted set; all for None."""
    if limit is None or limit >= len(images):
        return images
    if limit < 1:
        raise DataError(f"limit = {limit} images: expected at least 1.")
    return images.subset([place * len(images) // limit for place in range(limit)], images.split)


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
    """Returns indices (rest, chosen), each ascending, with ``count`` chosen in proportion to the classes.

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


def mean_and_std(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the mean and the population standard deviation of each channel, in units of [0, 1].

    They are computed from counts of the 256 values, exact up to the last division.

    Args:
        pixels: uint8 N C H W.

    Returns:
        The means and the standard deviations, a number for each channel.

    Example:
        >>> import zoo
        >>> means, stds = zoo.data.mean_and_std(zoo.data.load("digits").pixels)
        >>> round(means[0], 3), round(stds[0], 3)
        (0.306, 0.376)
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in pixels.unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256).cpu().double() / channel.numel()
        mean = (share * values).sum()
        means.append(float(mean))
        stds.append(float((share * (values - mean) ** 2).sum().sqrt()))
    return tuple(means), tuple(stds)
