"""Several pictures as one image file."""

import io
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from zoo.data.decode import to_image

_QUALITY = 75
_SMALL = 10
"""Pixels a side below which pictures are stored exactly: lossy compression would mix their colours."""


def column(pictures: Sequence[Tensor]) -> Tensor:
    """``pictures`` N times C H W below one another: C NH W."""
    return torch.cat([*pictures], dim=1)


def block(pictures: Sequence[Tensor], columns: int, gap: int = 1) -> Tensor:
    """``pictures`` N times 4 H W of one size, row by row, with ``gap`` transparent pixels between them: 4 h w."""
    missing = [torch.zeros_like(pictures[0])] * (-len(pictures) % columns)
    spaced = [pad(picture, (0, gap, 0, gap)) for picture in (*pictures, *missing)]
    rows = [torch.cat(spaced[start : start + columns], dim=2) for start in range(0, len(spaced), columns)]
    whole = column(rows)
    return whole[:, : whole.shape[1] - gap, : whole.shape[2] - gap]


def opaque(picture: Tensor) -> Tensor:
    """``picture``, 1 or 3 H W, with four channels: red, green, blue and opacity."""
    return torch.cat([picture.expand(3, -1, -1), torch.ones_like(picture[:1])])


def within(picture: Tensor, most: int) -> Tensor:
    """``picture`` C H W, made smaller if a side has more than ``most`` pixels."""
    longest = max(picture.shape[1:])
    if longest <= most:
        return picture
    size = [max(1, round(side * most / longest)) for side in picture.shape[1:]]
    resized: Tensor = interpolate(picture[None], size, mode="area")[0]
    return resized


def webp(picture: Tensor, *, tile: int = 0) -> bytes:
    """``picture`` C H W in [0, 1], of 1, 3 or (with transparency) 4 channels, as a WebP file.

    Exact, unless ``tile``, the side of the pictures it is made of, says that these are large.
    """
    stream = io.BytesIO()
    shown = (picture.clamp(0, 1) * 255).round().byte()
    image = to_image(shown) if len(shown) < 4 else Image.merge("RGBA", [to_image(part[None]) for part in shown])
    image.save(stream, "WEBP", lossless=tile < _SMALL, quality=_QUALITY, method=6)
    return stream.getvalue()
