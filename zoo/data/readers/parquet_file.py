"""One parquet file of images: its columns, classes and row groups."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.data.limits import check_bytes
from zoo.errors import DataError, MissingExtraError

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
        """The encoded images and the labels of a row group; raises :class:`DataError` naming the row."""
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
        """The columns of a row group, a few rows at a time: in a few bytes a dictionary repeats a large value."""
        encoded: list[Any] = []
        labels: list[Any] = []
        size = 0
        columns = [self.image, self.label]
        with _opened(self.file) as parquet:
            for batch in parquet.iter_batches(_AT_ONCE, row_groups=[group], columns=columns, use_threads=False):
                size += batch.nbytes
                check_bytes(size, f"{self.file}: row group {group}")
                images = batch.column(self.image)
                encoded += (images.field("bytes") if hasattr(images, "field") else images).to_pylist()
                labels += batch.column(self.label).to_pylist()
        return encoded, labels


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A pyarrow ParquetFile whose errors, on opening and within, become :class:`DataError`."""
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise MissingExtraError.of("Reading parquet", "pyarrow", "zoo-vision[data]") from None
    try:
        with ParquetFile(file) as parquet:
            yield parquet
    except (pyarrow.ArrowException, OSError, KeyError, ValueError) as error:
        hint = "The file may be truncated: download it again."
        raise DataError(f"{file}: cannot be read as parquet: {error}", hint=hint) from None


def _features(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """What the hub's library wrote about each column; empty if it wrote nothing, or nonsense."""
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
