"""Limits on the memory of a checkpoint, since a small file can describe tensors of any size."""

import os
from pathlib import Path

from zoo.errors import FileFormatError, SpecError

FACTOR = 4
"""Bytes of tensors to a byte of file: trained weights hardly compress."""

SMALL = 64_000_000
"""Bytes of tensors that any file may hold."""


def max_bytes(file: Path) -> int:
    """The limit on bytes of tensors in ``file``: ``ZOO_MAX_CHECKPOINT_BYTES``, or a limit based on its size."""
    text = os.environ.get("ZOO_MAX_CHECKPOINT_BYTES", "")
    if not text:
        return SMALL + FACTOR * file.stat().st_size
    if not text.isdecimal():
        raise SpecError(f"ZOO_MAX_CHECKPOINT_BYTES={text!r} is not a number of bytes.")
    return int(text)


def check(file: Path, claimed: int) -> None:
    """Raises :class:`FileFormatError` if ``claimed`` bytes of tensors exceed the limit for ``file``."""
    if claimed > (most := max_bytes(file)):
        raise FileFormatError(
            f"{file}: states {claimed:,} bytes of tensors; the limit for {file.stat().st_size:,} bytes is {most:,}.",
            hint=f"If you trust the file, set ZOO_MAX_CHECKPOINT_BYTES={claimed}.",
        )
