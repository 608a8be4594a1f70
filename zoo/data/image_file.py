"""Image files: decoding within limits, where every encoded image is checked, and encoding of pictures."""

import io
import struct
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from torch import Tensor
from torch.nn.functional import interpolate, pad

from zoo.errors import DataError
from zoo.system import storage
from zoo.system.switch import limit

_MAX_PIXELS = 1 << 26
_MAX_BYTES = 1 << 31
_LARGER = "To decode larger images, set ZOO_MAX_PIXELS."


def max_pixels() -> int:
    """Returns the limit on pixels of an image, as stored or as resized: 8,192 x 8,192, or ZOO_MAX_PIXELS."""
    return limit("ZOO_MAX_PIXELS") or _MAX_PIXELS


def max_bytes() -> int:
    """Returns the limit on decompressed bytes of one file, row group or archive: 2 GiB, or ZOO_MAX_DATA_BYTES."""
    return limit("ZOO_MAX_DATA_BYTES") or _MAX_BYTES


def check_pixels(width: int, height: int, where: str, what: str = "an image") -> None:
    """Raises :class:`DataError` for ``what``, of ``width`` x ``height``, if it exceeds :func:`max_pixels`."""
    if not 0 < width * height <= max_pixels():
        raise DataError(
            f"{where}: {what} of {width} x {height}; more than the limit of {max_pixels():,} pixels.",
            hint=_LARGER,
        )


def check_bytes(count: int, where: str) -> None:
    """Raises :class:`DataError` if ``where`` decompresses to ``count`` bytes, more than :func:`max_bytes`."""
    if count > max_bytes():
        raise DataError(
            f"{where}: decompresses to more than {max_bytes():,} bytes.",
            hint="If the file is right, set ZOO_MAX_DATA_BYTES.",
        )


_SMALL_UNFOLDED, _FACTOR = 64_000_000, 20


def check_unfolded(count: int, file: Path, where: str = "") -> None:
    """Raises :class:`DataError` if ``file`` of encoded images decompresses to ``count`` bytes: more than
    :func:`max_bytes`, or than 64 MB and 20 times its size unless ``ZOO_MAX_DATA_BYTES`` is set: images hardly compress.
    """
    check_bytes(count, where or str(file))
    size = file.stat().st_size
    if limit("ZOO_MAX_DATA_BYTES") is None and count > (most := _SMALL_UNFOLDED + _FACTOR * size):
        raise DataError(
            f"{where or file}: decompresses to more than {most:,} bytes, the limit for a file of {size:,}.",
            hint=f"If the file is right, set ZOO_MAX_DATA_BYTES={max_bytes()}.",
        )


SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".pgm", ".pbm", ".tif", ".tiff", ".gif"})

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF", "GIF")
_SIXTEEN_BITS = "I;16"
_GRAY = frozenset({"1", "L", "LA", *(_SIXTEEN_BITS + order for order in ("", "B", "L", "N"))})
_STEPS = {"L;2": 85, "L;4": 17}
"""Pillow's names of grey of 2 and 4 bits in a PNG, and how far apart their levels are in 8 bits."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The change that sets an image upright, by its EXIF orientation."""


def open_image(source: Path | bytes, where: str) -> ImageFile:
    """Opens an image, reading only its header; raises :class:`DataError` naming ``where``.

    The caller must close it, or decode it with :func:`decode_image`. ``ZOO_MAX_PIXELS`` lifts Pillow's own limit too,
    which is one of the process.
    """
    if (most := limit("ZOO_MAX_PIXELS")) and Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(most, Image.MAX_IMAGE_PIXELS)
    try:
        if isinstance(source, Path):
            storage.open_regular(source).close()  # opening a pipe would wait for its writer
        image = Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS)
    except Exception as error:  # Pillow's parsers raise anything on hostile bytes
        raise _unreadable(where, error) from None
    try:
        check_pixels(*image.size, where)
    except BaseException:
        image.close()
        raise
    return image


def read_image(source: Path | bytes, where: str, channels: int) -> Image.Image:
    """Decodes an image in RGB (``channels`` 3) or L (1); raises :class:`DataError` naming ``where``.

    Only the first frame of an animation is read. See :func:`to_channels`.
    """
    with open_image(source, where) as image:
        return decode_image(image, where, channels)


def decode_image(image: ImageFile, where: str, channels: int) -> Image.Image:
    """Does what :func:`read_image` does, for an image from :func:`open_image`."""
    has_exif, transparent = "exif" in image.info, image.info.get("transparency")
    step = _STEPS.get(str(image.tile[0].args)) if image.tile else None
    if step and isinstance(transparent, int) and transparent * step < 256:
        image.info["transparency"] = transparent * step  # Pillow scales the levels only, not which one is transparent
    try:
        image.load()
    except Exception as error:  # as above
        raise _unreadable(where, error) from None
    if not has_exif:
        image.info.pop("exif", None)  # behind a PNG's pixels: upright_size did not see it, and browsers do not
    if isinstance(image.info.get("transparency"), str):
        del image.info["transparency"]  # a comment in a PNG
    return to_channels(image, channels, where)


def count_channels(image: Image.Image) -> int:
    """Returns 1 if the image's mode has only grey values, otherwise 3."""
    return 1 if image.mode in _GRAY else 3


def to_channels(image: Image.Image, channels: int, where: str = "image") -> Image.Image:
    """Converts ``image`` to mode RGB (3) or L (1), as browsers show it.

    It is turned as its EXIF says (:func:`upright`), and laid on white where it is transparent. Palettes are applied,
    colour profiles are not. Of 16 bits a channel, the upper 8 are taken. Grey is repeated; colour is converted to grey
    by Pillow (ITU-R 601-2 luma). Pillow's modes I and F, of 32 bits, are an error, because their range is unknown.
    """
    if channels not in (1, 3):
        raise DataError(f"{where}: images have 1 or 3 channels, but the network expects {channels}.")
    image = upright(image)
    if image.mode.startswith(_SIXTEEN_BITS):
        image = _upper_bits(image)
    if image.mode.startswith(("I", "F")):
        raise DataError(f"{where}: mode {image.mode}, 32 bits per channel.", hint="Save it with 8 or 16 bits.")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGB", image.size, "white")
        image.paste(layer, mask=layer)
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _upper_bits(image: Image.Image) -> Image.Image:
    """Returns ``image``, grey of 16 bits, in mode L; its transparent value, if there is one, becomes white."""
    values = np.asarray(image)
    gray = (values >> 8).astype(np.uint8)
    if isinstance(transparent := image.info.get("transparency"), int):
        gray[values == transparent] = 255
    return Image.fromarray(gray)


def upright(image: Image.Image) -> Image.Image:
    """Turns and mirrors ``image`` as its EXIF says, and leaves the EXIF out; returns ``image`` if there is no need."""
    turn = _TURNS.get(orientation(image))
    if turn is None:
        return image
    turned = image.transpose(turn)
    del turned.info["exif"]
    return turned


def upright_size(image: ImageFile) -> tuple[int, int]:
    """Returns width and height of :func:`upright` of an image from :func:`open_image`, reading only its header."""
    width, height = image.size
    return (height, width) if orientation(image) > 4 else (width, height)


_ORIENTATION, _SHORT = 0x0112, 3


def orientation(image: Image.Image) -> int:
    """Returns the orientation in the EXIF of ``image``, 1 to 8; 1 if it has none, or one that browsers ignore, too.

    Pillow's ``getexif`` raises on damaged EXIF, and reads XMP. Pillow turns TIFF, which has no ``exif``, by itself.
    """
    exif = image.info.get("exif")
    if not isinstance(exif, bytes):
        return 1
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, directory)
        for number in range(entries):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", exif, directory + 2 + 12 * number)
            if tag == _ORIENTATION:
                return int(value) if (kind, count) == (_SHORT, 1) and value in _TURNS else 1
    except struct.error:  # it ends early
        pass
    return 1


def to_pixels(image: Image.Image) -> Tensor:
    """Returns uint8 C H W (a view of H W C memory) of an image in mode RGB or L."""
    channels = len(image.getbands())
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.view(image.height, image.width, channels).permute(2, 0, 1)


def to_image(pixels: Tensor) -> Image.Image:
    """Returns the image of ``pixels`` uint8 C H W, with 1 or 3 channels."""
    array = pixels.cpu().permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def _unreadable(where: str, error: Exception) -> DataError:
    detail = str(error).split(" <_io")[0] or type(error).__name__
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return DataError(f"{where}: {detail.partition(', could')[0]}.", hint=_LARGER)
    if isinstance(error, FileNotFoundError):
        return DataError(f"{where}: no such file.")
    if isinstance(error, UnidentifiedImageError):  # whatever its name says
        return DataError(f"{where}: not an image: expected one of {', '.join(_FORMATS)}.")
    return DataError(f"{where}: cannot be decoded: {detail}", hint="The file may be truncated: download it again.")


_WEBP_QUALITY = 75
_SMALL = 10
"""Pixels a side below which pictures are stored exactly: lossy compression would mix their colours."""


def column(pictures: Sequence[Tensor]) -> Tensor:
    """Stacks ``pictures`` N times C H W below one another: C NH W."""
    return torch.cat([*pictures], dim=1)


def block(pictures: Sequence[Tensor], columns: int, gap: int = 1) -> Tensor:
    """Lays ``pictures`` N times 4 H W out row by row, with ``gap`` transparent pixels between them: 4 h w."""
    missing = [torch.zeros_like(pictures[0])] * (-len(pictures) % columns)
    spaced = [pad(picture, (0, gap, 0, gap)) for picture in (*pictures, *missing)]
    rows = [torch.cat(spaced[start : start + columns], dim=2) for start in range(0, len(spaced), columns)]
    whole = column(rows)
    return whole[:, : whole.shape[1] - gap, : whole.shape[2] - gap]


def opaque(picture: Tensor) -> Tensor:
    """Returns ``picture``, 1 or 3 H W, with four channels: red, green, blue and opacity."""
    return torch.cat([picture.expand(3, -1, -1), torch.ones_like(picture[:1])])


def within(picture: Tensor, most: int) -> Tensor:
    """Makes ``picture`` C H W smaller if a side has more than ``most`` pixels."""
    longest = max(picture.shape[1:])
    if longest <= most:
        return picture
    size = [max(1, round(side * most / longest)) for side in picture.shape[1:]]
    resized: Tensor = interpolate(picture[None], size, mode="area")[0]
    return resized


def webp(picture: Tensor, *, tile: int = 0) -> bytes:
    """Encodes ``picture`` C H W in [0, 1], of 1, 3 or (with transparency) 4 channels, as a WebP file.

    Exact, unless ``tile``, the side of the pictures it is made of, says that these are large.
    """
    stream = io.BytesIO()
    shown = (picture.clamp(0, 1) * 255).round().byte()
    image = to_image(shown) if len(shown) < 4 else Image.merge("RGBA", [to_image(part[None]) for part in shown])
    image.save(stream, "WEBP", lossless=tile < _SMALL, quality=_WEBP_QUALITY, method=6)
    return stream.getvalue()
