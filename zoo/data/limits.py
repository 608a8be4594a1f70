"""How much of a file is taken in. A few bytes may unfold to fill the memory; whoever means to, raises a limit."""

import os

from zoo.errors import DataError

_PIXELS = 1 << 26
_BYTES = 1 << 31


def max_pixels() -> int:
    """The limit on pixels of an image, as stored or as resized: 8,192 x 8,192, or ZOO_MAX_PIXELS."""
    return _read("ZOO_MAX_PIXELS", _PIXELS)


def max_bytes() -> int:
    """The limit on decompressed bytes of one file, row group or archive: 2 GiB, or ZOO_MAX_DATA_BYTES."""
    return _read("ZOO_MAX_DATA_BYTES", _BYTES)


def check_pixels(width: int, height: int, where: str, what: str = "an image") -> None:
    """Raises :class:`DataError` for ``what``, of ``width`` x ``height``, if it exceeds :func:`max_pixels`."""
    if not 0 < width * height <= max_pixels():
        raise DataError(
            f"{where}: {what} of {width} x {height}; more than the limit of {max_pixels():,} pixels.",
            hint="To decode larger images, set ZOO_MAX_PIXELS.",
        )


def check_bytes(count: int, where: str) -> None:
    """Raises :class:`DataError` if ``where`` decompresses to ``count`` bytes, more than :func:`max_bytes`."""
    if count > max_bytes():
        raise DataError(
            f"{where}: decompresses to more than {max_bytes():,} bytes.",
            hint="If the file is right, set ZOO_MAX_DATA_BYTES.",
        )


def _read(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text[:20]) == 0:
        raise DataError(
            f"{name}={text!r} is not a number of {'pixels' if 'PIXELS' in name else 'bytes'} greater than 0."
        )
    return int(text[:20])
