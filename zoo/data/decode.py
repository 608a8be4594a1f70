"""Decodes images; every encoded image is checked here."""

from io import BytesIO
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from zoo.data.limits import check_pixels
from zoo.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".pgm", ".pbm", ".tif", ".tiff", ".gif"})

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF", "GIF")
_GREY = frozenset({"1", "L", "LA"})


def open_image(source: Path | bytes, where: str) -> Image.Image:
    """An image of which only the header has been read; raises :class:`DataError` naming ``where``.

    The caller must close it, or decode it with :func:`decode`.
    """
    try:
        image = Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS)
    except Exception as error:  # Pillow's parsers raise anything on hostile bytes
        raise _unreadable(where, error) from None
    try:
        check_pixels(*image.size, where)
    except DataError:
        image.close()
        raise
    return image


def read_image(source: Path | bytes, where: str, channels: int) -> Image.Image:
    """The decoded image in RGB (``channels`` 3) or L (1); raises :class:`DataError` naming ``where``.

    Only the first frame of an animation is read. EXIF orientation is ignored, as usual in this field.
    """
    with open_image(source, where) as image:
        return decode_image(image, where, channels)


def decode_image(image: Image.Image, where: str, channels: int) -> Image.Image:
    """Like :func:`read_image`, for an image from :func:`open_image`."""
    try:
        image.load()
    except Exception as error:  # as above
        raise _unreadable(where, error) from None
    return to_channels(image, channels, where)


def count_channels(image: Image.Image) -> int:
    """1 if the image's mode has only grey values, otherwise 3."""
    return 1 if image.mode in _GREY else 3


def to_channels(image: Image.Image, channels: int, where: str = "image") -> Image.Image:
    """``image`` in mode RGB (3) or L (1): alpha is dropped, palettes are applied, grey is repeated.

    Colour is converted to grey by Pillow (ITU-R 601-2 luma). Images with more than 8 bits per channel are an error,
    because Pillow would clip instead of scaling them.
    """
    if channels not in (1, 3):
        raise DataError(f"{where}: images have 1 or 3 channels, but the network expects {channels}.")
    if image.mode.startswith(("I", "F")):
        raise DataError(f"{where}: mode {image.mode}, more than 8 bits per channel.", hint="Save it with 8 bits.")
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode:
        return image
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB, Pillow warns
    return image.convert(mode)


def to_pixels(image: Image.Image) -> Tensor:
    """uint8 C H W (a view of H W C memory) of an image in mode RGB or L."""
    channels = len(image.getbands())
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.view(image.height, image.width, channels).permute(2, 0, 1)


def to_image(pixels: Tensor) -> Image.Image:
    """The image of ``pixels`` uint8 C H W, with 1 or 3 channels."""
    array = pixels.cpu().permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def _unreadable(where: str, error: Exception) -> DataError:
    detail = str(error).split(" <_io")[0] or type(error).__name__
    if isinstance(error, UnidentifiedImageError):  # whatever its name says
        return DataError(f"{where}: not an image: expected one of {', '.join(_FORMATS)}.")
    return DataError(f"{where}: cannot be decoded: {detail}", hint="The file may be truncated: download it again.")
