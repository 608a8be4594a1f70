"""A data set's fingerprint: a hash of its pixels and labels, in order.

The fingerprint is the sha256 over, image by image, its channels, height and width (three unsigned
32-bit integers), its label (a signed 64-bit integer), all little-endian, and its uint8 pixels in
C H W order. It does not depend on where or in which file format the images lie, so a copy of a set
as PNG files has the fingerprint of the original. JPEG files give the pixels of the decoder that is
installed, which may differ by a unit between versions of libjpeg.
"""

import hashlib
import struct
from collections.abc import Iterator

import torch
from torch import Tensor

_HEADER = struct.Struct("<IIIq")


class Fingerprint:
    """A running fingerprint: images are added by :meth:`add`; ``str()`` is ``sha256:<64 hex>``."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, pixels: Tensor, labels: Tensor) -> None:
        """Adds images in order: ``pixels`` uint8 B C H W, ``labels`` int64 B."""
        for part in _parts(pixels, labels):
            self._hash.update(part)

    def __str__(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def identities(pixels: Tensor, labels: Tensor) -> Tensor:
    """The sha256 of each image alone, uint8 B 32, over the bytes that :class:`Fingerprint` reads of it."""
    parts = _parts(pixels, labels)
    found = [hashlib.sha256(header + bytes(image)).digest() for header, image in zip(parts, parts, strict=True)]
    return torch.frombuffer(bytearray(b"".join(found)), dtype=torch.uint8).view(-1, 32)


def _parts(pixels: Tensor, labels: Tensor) -> Iterator[bytes]:
    """The header and the pixels of each image, one after the other."""
    array = pixels.cpu().contiguous().numpy()
    for image, label in zip(array, labels.tolist(), strict=True):
        yield _HEADER.pack(*image.shape, label)
        yield image
