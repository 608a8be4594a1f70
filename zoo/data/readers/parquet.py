"""Parquet in the Hugging Face hub's layout: a column of encoded images and one of labels."""

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from zoo.data.image_file import (
    check_bytes,
    check_unfolded,
    count_channels,
    decode_image,
    open_image,
    read_image,
    to_pixels,
    upright_size,
)
from zoo.data.image_set import MAX_RESIDENT_BYTES, ImageSet, check_labels
from zoo.errors import DataError, MissingExtraError
from zoo.system import storage

_AT_ONCE = 64
"""Rows that are unfolded before their bytes are counted."""

IMAGE_NAMES = ("image", "img")
LABEL_NAMES = ("label", "labels", "fine_label")


@dataclass(frozen=True)
class Table:
    """``image`` is a column of bytes, or of structs with a field ``bytes``; ``label`` one of integers.

    ``classes`` is empty if the file's metadata do not name them.
    """

    file: Path
    image: str
    label: str
    classes: tuple[str, ...]
    group_rows: tuple[int, ...]

    @property
    def rows(self) -> int:
        return sum(self.group_rows)

    @classmethod
    def open(cls, file: Path) -> "Table":
        """Reads the file's metadata; raises :class:`DataError`, :class:`MissingExtraError`."""
        with _opened(file) as parquet:
            groups = [parquet.metadata.row_group(group) for group in range(parquet.metadata.num_row_groups)]
            schema = parquet.schema_arrow
            features = _features(schema.metadata or {})
            image = find_column(file, "image", IMAGE_NAMES, schema.names, _of_type(features, "Image"))
            label = find_column(file, "label", LABEL_NAMES, schema.names, _of_type(features, "ClassLabel"))
            names = features.get(label, {}).get("names") or ()
            if isinstance(names, dict):  # as the hub has them in YAML
                names = [names[key] for key in sorted(names, key=int)]
            check_bytes(max((group.total_byte_size for group in groups), default=0), f"{file}: a row group")
            if any(group.num_rows < 0 for group in groups):
                raise DataError(f"{file}: a row group states a negative number of rows.")
            return cls(file, image, label, tuple(map(str, names)), tuple(group.num_rows for group in groups))

    def read(self, group: int) -> tuple[list[bytes], list[int]]:
        """Reads the encoded images and the labels of a row group; raises :class:`DataError` naming the row."""
        encoded, labels = self._unfold(group)
        if len(encoded) != self.group_rows[group] or len(labels) != len(encoded):
            raise DataError(
                f"{self.file}: row group {group} does not hold the {self.group_rows[group]} rows that it states."
            )
        first = sum(self.group_rows[:group])
        for row, (image, label) in enumerate(zip(encoded, labels, strict=True), start=first):
            if not isinstance(image, bytes):
                raise DataError(f"{self.file} row {row}: no image bytes.")
            if not isinstance(label, int):
                raise DataError(f"{self.file} row {row}: label {label!r}, expected an integer.")
        return encoded, labels

    def _unfold(self, group: int) -> tuple[list[Any], list[Any]]:
        """Reads a row group, a few rows at a time: in a few bytes a dictionary repeats a large value."""
        encoded: list[Any] = []
        labels: list[Any] = []
        size = 0
        columns = [self.image, self.label]
        with _opened(self.file) as parquet:
            for batch in parquet.iter_batches(_AT_ONCE, row_groups=[group], columns=columns, use_threads=False):
                images = batch.column(self.image)
                check_unfolded(size + batch.nbytes, self.file, f"{self.file}: row group {group}")
                for scalar in images.field("bytes") if hasattr(images, "field") else images:
                    encoded.append(scalar.as_py())  # one at a time: a dictionary states a large value once
                    size += len(encoded[-1]) if isinstance(encoded[-1], bytes) else 0
                    check_unfolded(size, self.file, f"{self.file}: row group {group}")
                labels += batch.column(self.label).to_pylist()
        return encoded, labels


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """Opens a pyarrow ParquetFile whose errors, on opening and within, become :class:`DataError`."""
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise MissingExtraError.of("Reading parquet", "pyarrow", "zoo-vision[data]") from None
    try:
        storage.open_regular(file).close()
        with ParquetFile(file) as parquet:
            yield parquet
    except (pyarrow.ArrowException, OSError, KeyError, ValueError) as error:
        hint = "The file may be truncated: download it again."
        raise DataError(f"{file}: cannot be read as parquet: {error}", hint=hint) from None


def _features(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """Returns the hub's description of each column; empty if there is none, or it is nonsense."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    if not isinstance(features, dict):
        return {}
    return {name: feature for name, feature in features.items() if isinstance(feature, dict)}


def _of_type(features: dict[str, Any], kind: str) -> list[str]:
    return [name for name, feature in features.items() if feature.get("_type") == kind]


def find_column(where: object, what: str, usual: tuple[str, ...], there: list[str], declared: list[str]) -> str:
    for name in (*declared, *usual):
        if name in there:
            return name
    raise DataError(f"{where}: no {what} column, expected {' or '.join(usual)}; found {', '.join(there)}.")


_SHARD = re.compile(r"(?P<split>.+?)-(?P<index>\d{5})-of-(?P<count>\d{5})(-[0-9a-f]+)?\.parquet")


def find_shards(folder: Path, split: str) -> list[Path]:
    """Returns the files of ``split`` in ``folder``, in order: ``[data/]<split>-00000-of-00001.parquet``,
    ``[data/]<split>.parquet`` or ``<split>/*.parquet``.

    Empty if the folder holds no parquet; :class:`DataError` if it holds only other splits, or
    if a shard is missing.
    """
    every = _files(folder)
    chosen = [file for file in every if split_of(file, folder) == split]
    if every and not chosen:
        splits = ", ".join(splits_of(folder))
        raise DataError(f"{folder}: no split {split!r}.", hint=f"Splits: {splits}.")
    shards = [match for file in chosen if (match := _SHARD.fullmatch(file.name))]
    there = {int(match["index"]) for match in shards}
    missing = sorted(set(range(max((int(match["count"]) for match in shards), default=0))) - there)
    if missing:
        raise DataError(f"{folder}: shard {missing[0]:05d} of {shards[0]['count']} of the split {split!r} is missing.")
    return chosen


def splits_of(folder: Path) -> list[str]:
    """Returns the splits of the parquet files in ``folder``; [] if it holds none."""
    return sorted({split_of(file, folder) for file in _files(folder)})


def _files(folder: Path) -> list[Path]:
    found = sorted(file for pattern in ("*.parquet", "data/*.parquet", "*/*.parquet") for file in folder.glob(pattern))
    return list(dict.fromkeys(found))


def split_of(file: Path, folder: Path | None = None) -> str:
    """Returns the split that the name of ``file`` says, or that of the folder that holds it within ``folder``."""
    if match := _SHARD.fullmatch(file.name):
        return match["split"]
    return file.stem if folder is None or file.parent in (folder, folder / "data") else file.parent.name


def read(files: list[Path], name: str, split: str, classes: tuple[str, ...] = ()) -> ImageSet:
    """Reads the images of ``files``; ``classes`` are the names they must have, if these are known.

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
        table_labels: list[int] = []
        for group in range(len(table.group_rows)):
            encoded, values = table.read(group)
            for row, image in enumerate(encoded, start=len(table_labels)):
                pixels.add(image, f"{table.file} row {row}")
            table_labels += values
        labels.append(torch.tensor(table_labels, dtype=torch.int64))
        if classes:
            check_labels(labels[-1], len(classes), str(table.file))
    every = torch.cat(labels)
    if not classes:
        _check_unnamed(every, files)
    classes = classes or tuple(str(label) for label in range(int(every.max()) + 1 if len(every) else 0))
    origin = str(files[0] if len(files) == 1 else files[0].parent)
    if pixels.resident is not None:
        return ImageSet(name, split, classes, every, pixels.resident, origin=origin)
    channels = 3 if pixels.has_color else 1
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
        self.has_color = False

    def add(self, encoded: bytes, where: str) -> None:
        image = open_image(encoded, where)
        width, height = upright_size(image)
        shape = (count_channels(image), height, width)
        self.has_color = self.has_color or shape[0] == 3
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
        self.last: tuple[int, list[bytes]] = (-1, [])

    def __call__(self, index: int) -> Image.Image:
        encoded, where = self._find(index)
        return read_image(encoded, where, self.channels)

    def encoded(self, index: int) -> bytes:
        return self._find(index)[0]

    def _find(self, index: int) -> tuple[bytes, str]:
        """Returns the bytes of image ``index``, and its name in messages."""
        number = bisect_right(self.ends, index)
        table, group = self.groups[number]
        last, encoded = self.last
        if last != number:
            encoded = table.read(group)[0]
            self.last = number, encoded
        row = index - (self.ends[number] - table.group_rows[group])
        return encoded[row], f"{table.file} row {row + sum(table.group_rows[:group])}"
