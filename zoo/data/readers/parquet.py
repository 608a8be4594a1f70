"""Parquet in the Hugging Face hub's layout: a column of encoded images and one of labels."""

import re
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from zoo.data.decode import count_channels, decode_image, open_image, read_image, to_pixels
from zoo.data.image_set import MAX_RESIDENT_BYTES, ImageSet, check_labels
from zoo.data.readers.parquet_file import Table
from zoo.errors import DataError

_SHARD = re.compile(r"(?P<split>.+?)-(?P<index>\d{5})-of-(?P<count>\d{5})(-[0-9a-f]+)?\.parquet")


def find_shards(folder: Path, split: str) -> list[Path]:
    """The files of ``split`` in ``folder``, in order: ``[data/]<split>-00000-of-00001.parquet``,
    ``[data/]<split>.parquet`` or ``<split>/*.parquet``.

    Empty if the folder holds no parquet; :class:`DataError` if it holds only other splits, or
    if a shard is missing.
    """
    every = _files(folder)
    found = [file for file in every if split_of(file, folder) == split]
    if every and not found:
        others = ", ".join(splits_of(folder))
        raise DataError(f"{folder}: no split {split!r}.", hint=f"Splits: {others}.")
    shards = [match for file in found if (match := _SHARD.fullmatch(file.name))]
    there = {int(match["index"]) for match in shards}
    missing = sorted(set(range(max((int(match["count"]) for match in shards), default=0))) - there)
    if missing:
        raise DataError(f"{folder}: shard {missing[0]:05d} of {shards[0]['count']} of the split {split!r} is missing.")
    return found


def splits_of(folder: Path) -> list[str]:
    """The splits of the parquet files in ``folder``; [] if it holds none."""
    return sorted({split_of(file, folder) for file in _files(folder)})


def _files(folder: Path) -> list[Path]:
    found = sorted(file for pattern in ("*.parquet", "data/*.parquet", "*/*.parquet") for file in folder.glob(pattern))
    return list(dict.fromkeys(found))


def split_of(file: Path, folder: Path | None = None) -> str:
    """The split that the name of ``file`` says, or that of the folder that holds it within ``folder``."""
    if match := _SHARD.fullmatch(file.name):
        return match["split"]
    return file.stem if folder is None or file.parent in (folder, folder / "data") else file.parent.name


def read(files: list[Path], name: str, split: str, classes: tuple[str, ...] = ()) -> ImageSet:
    """The images of ``files``; ``classes`` are the names they must have, if these are known.

    Resident if all images have one size and one mode; otherwise decoded on demand, a row group at
    a time: fast in order, slow at random. Raises :class:`DataError` naming file and row.
    """
    tables = [Table.open(file) for file in files]
    for table in tables:
        expected = classes or tables[0].classes
        if table.classes and table.classes != expected:
            got = f"{len(table.classes)} classes ({', '.join(table.classes[:12])})"
            raise DataError(f"{table.file}: {got}; expected {len(expected)} ({', '.join(expected[:12])}).")
    classes = classes or tables[0].classes
    pixels = _Pixels(sum(table.rows for table in tables))
    labels: list[Tensor] = []
    for table in tables:
        found: list[int] = []
        for group in range(len(table.group_rows)):
            encoded, values = table.read(group)
            for row, image in enumerate(encoded, start=len(found)):
                pixels.add(image, f"{table.file} row {row}")
            found += values
        labels.append(torch.tensor(found, dtype=torch.int64))
        if classes:
            check_labels(labels[-1], len(classes), str(table.file))
    every = torch.cat(labels)
    if not classes:
        _check_unnamed(every, files)
    classes = classes or tuple(str(label) for label in range(int(every.max()) + 1 if len(every) else 0))
    origin = str(files[0] if len(files) == 1 else files[0].parent)
    if pixels.resident is not None:
        return ImageSet(name, split, classes, every, pixels.resident, origin=origin)
    channels = 3 if pixels.has_colour else 1
    return ImageSet(name, split, classes, every, read=_Rows(tables, channels), channels=channels, origin=origin)


def _check_unnamed(labels: Tensor, files: list[Path]) -> None:
    """Raises :class:`DataError` for labels that cannot be of classes that each have an image."""
    low, high = (int(bound) for bound in labels.aminmax()) if len(labels) else (0, 0)
    if low < 0 or high >= max(len(labels), 1):
        row = int((labels == (low if low < 0 else high)).nonzero()[0])
        raise DataError(
            f"{files[0]}: row {row} has label {int(labels[row])}, expected 0 to {len(labels) - 1}: nothing names the "
            f"classes, of which {len(labels)} images can have no more.",
            hint="If the label is right, write the classes' names into the file: datasets.ClassLabel.",
        )


class _Pixels:
    """Decodes into one tensor for as long as all images have one shape, then only looks at headers."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.filled = 0
        self.shape: tuple[int, int, int] | None = None  # C H W
        self.resident: Tensor | None = None
        self.has_colour = False

    def add(self, encoded: bytes, where: str) -> None:
        image = open_image(encoded, where)
        shape = (count_channels(image), image.height, image.width)
        self.has_colour = self.has_colour or shape[0] == 3
        if self.shape is None:
            self.shape = shape
            if self.rows * shape[0] * shape[1] * shape[2] <= MAX_RESIDENT_BYTES:
                self.resident = torch.empty((self.rows, *shape), dtype=torch.uint8)
        if shape != self.shape:
            self.resident = None
        if self.resident is not None:
            self.resident[self.filled] = to_pixels(decode_image(image, where, shape[0]))
        self.filled += 1


class _Rows:
    """Decodes image i of several tables, keeping the bytes of one row group."""

    def __init__(self, tables: list[Table], channels: int) -> None:
        self.channels = channels
        self.groups = [(table, group) for table in tables for group in range(len(table.group_rows))]
        self.ends = list(accumulate(table.group_rows[group] for table, group in self.groups))
        self.held: tuple[int, list[bytes]] = (-1, [])

    def __call__(self, index: int) -> Image.Image:
        encoded, where = self._find(index)
        return read_image(encoded, where, self.channels)

    def encoded(self, index: int) -> bytes:
        return self._find(index)[0]

    def _find(self, index: int) -> tuple[bytes, str]:
        """The bytes of image ``index``, and how messages call it."""
        number = bisect_right(self.ends, index)
        table, group = self.groups[number]
        held, encoded = self.held
        if held != number:
            encoded = table.read(group)[0]
            self.held = number, encoded
        row = index - (self.ends[number] - table.group_rows[group])
        return encoded[row], f"{table.file} row {row + sum(table.group_rows[:group])}"
