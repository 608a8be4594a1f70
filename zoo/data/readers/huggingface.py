"""Hugging Face `datasets` as streams: read shard by shard, without downloading or storing files."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from zoo.data.image_file import count_channels, open_image
from zoo.data.readers.parquet import IMAGE_NAMES, LABEL_NAMES, find_column
from zoo.data.stream import ImageStream, Sample, Shard
from zoo.errors import DataError, MissingExtraError
from zoo.hub import offline_switch

PREFIX = "hf:"

log = logging.getLogger("zoo.data")

_LOOKED_AT = 64
"""Images whose headers say whether a set has colour."""


def open_dataset(address: str, split: str = "train") -> ImageStream:
    """Opens the split of ``hf:NAME`` or ``hf:NAME:CONFIG``, where NAME is one of the hub's, or a local folder.

    Parquet files, which is what the hub has, say how many images they hold; a set of other files is
    read through once to count them. Raises :class:`DataError`.
    """
    library = _library()
    name, _, config = address.removeprefix(PREFIX).partition(":")
    if not Path(name).is_dir() and (switch := offline_switch()):
        raise DataError(f"{address}: network access is disabled ({switch}={os.environ[switch]}).")
    try:
        builder = library.load_dataset_builder(name, config or None)
        dataset = builder.as_streaming_dataset(split=split)
        files = [str(file) for file in (builder.config.data_files or {}).get(split, [])]
        counts = _parquet_counts(files) if len(files) == dataset.num_shards else None
    except Exception as error:  # the hub's clients and file systems raise their own kinds
        raise DataError(f"{address}: {type(error).__name__}: {error}") from None
    return from_huggingface(
        dataset,
        name=PurePosixPath(name).name,
        split=split,
        counts=counts,
        shards=[PurePosixPath(file).name for file in files] if counts else (),
        origin=address,
        root=str(Path(name).resolve()) if Path(name).is_dir() else f"hf://datasets/{name}",
    )


def from_huggingface(
    dataset: Any,
    *,
    name: str,
    split: str = "train",
    counts: Sequence[int] | None = None,
    classes: Sequence[str] = (),
    channels: int = 0,
    shards: Sequence[str] = (),
    origin: str = "",
    root: str = "",
) -> ImageStream:
    """Returns the stream of a ``datasets.IterableDataset`` with a column of images and one of labels.

    Args:
        dataset: The data set, in streaming mode.
        name: What to call it.
        split: The name of its split.
        counts: Images in each shard. By default they are counted, which reads all labels once.
        classes: Names of the classes, if the column of labels has none.
        channels: 1 or 3. By default what the first images have.
        shards: Names of the shards, for messages.
        origin: Where the data set is from, for messages.
        root: The folder or address that must contain the files which rows name instead of holding an image. By default
            rows must hold their images.

    Returns:
        The stream, which :func:`zoo.train` takes.

    Raises:
        DataError: A column is missing, the classes have no names, or the counts do not fit the shards.
        MissingExtraError: ``datasets`` is not installed.

    Example:
        >>> import datasets, zoo
        >>> digits = zoo.data.load("digits", "test")
        >>> rows = {"image": [digits.image(i) for i in range(8)], "label": digits.labels[:8].tolist()}
        >>> dataset = datasets.Dataset.from_dict(rows).to_iterable_dataset()
        >>> stream = zoo.data.from_huggingface(dataset, name="few", classes=digits.classes)
        >>> len(stream)
        8
    """
    library = _library()
    features = dict(dataset.features or {})
    where = origin or name
    kinds = {column: type(feature).__name__ for column, feature in features.items()}
    image, label = (
        find_column(where, what, usual, [*features], [column for column, kind in kinds.items() if kind == declared])
        for what, usual, declared in (("image", IMAGE_NAMES, "Image"), ("label", LABEL_NAMES, "ClassLabel"))
    )
    classes = tuple(classes) or tuple(getattr(features[label], "names", None) or ())
    if not classes:
        raise DataError(
            f"{where}: the column {label!r} has no class names.",
            hint="Pass them: zoo.data.from_huggingface(dataset, name=..., classes=[...]).",
        )
    rows = _Rows(dataset.cast_column(image, library.Image(decode=False)), image, label, where, root)
    names = list(shards) or [f"shard {index}" for index in range(dataset.num_shards)]
    counts = _count(dataset, label, where) if counts is None else counts
    if not len(names) == len(counts) == dataset.num_shards:
        raise DataError(f"{where}: {len(counts)} counts and {len(names)} names, but {dataset.num_shards} shards.")
    return ImageStream(
        name,
        split,
        classes,
        tuple(map(Shard, names, counts)),
        rows,
        channels=channels or rows.channels(),
        origin=origin,
    )


@dataclass(frozen=True)
class _Rows:
    """The rows of a dataset whose images are not decoded."""

    dataset: Any
    image: str
    label: str
    where: str
    root: str

    def __call__(self, shard: int) -> Iterator[Sample]:
        rows = iter(self.dataset.shard(self.dataset.num_shards, shard))
        number = 0
        while True:
            key = f"row {number}"
            try:
                row = next(rows, None)
                if row is None:
                    return
                sample = Sample(key, _bytes(row[self.image], self.root), row[self.label])
            except Exception as error:  # as above
                raise DataError(
                    f"{self.where}: shard {shard}, {key} cannot be read: {type(error).__name__}: {error}",
                    hint="The file may be truncated: download it again.",
                ) from None
            if not isinstance(sample.label, int):
                raise DataError(f"{self.where}: shard {shard}, {key} has label {sample.label!r}, expected an integer.")
            yield sample
            number += 1

    def channels(self) -> int:
        """Returns 3 if one of the first images has colour, else 1."""
        for sample in islice(self(0), _LOOKED_AT):
            with open_image(sample.encoded, f"{self.where}: {sample.key}") as image:
                if count_channels(image) == 3:
                    return 3
        return 1


def _bytes(value: Any, root: str) -> bytes:
    """Returns the encoded image in a cell: its bytes, or those of the file within ``root`` that it names."""
    if value is None:
        raise ValueError("no image")
    if value["bytes"] is not None:
        return bytes(value["bytes"])
    if not _lies_in(str(value["path"]), root):
        raise ValueError(f"it refers to {value['path']!r}, a file outside of {root or 'the data set'}")
    import fsspec

    with fsspec.open(value["path"], "rb") as file:
        return bytes(file.read())


def _lies_in(path: str, root: str) -> bool:
    """Returns whether ``path``, or its archive (``zip://MEMBER::ARCHIVE``), lies within ``root``."""
    *members, file = path.split("::")
    if not root or ".." in PurePosixPath(file).parts or not all(member.startswith("zip://") for member in members):
        return False
    if "://" in root:
        return file.startswith((f"{root}/", f"{root}@"))
    return "://" not in file and Path(file).resolve().is_relative_to(root)


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingExtraError.of("Streaming from Hugging Face", "datasets", "zoo-vision[stream]") from None
    return datasets


def _parquet_counts(files: Sequence[str]) -> list[int] | None:
    """Returns the rows of each file as its footer has them; None if there are files of another kind."""
    if not files or any(not file.endswith(".parquet") for file in files):
        return None
    import fsspec
    from pyarrow.parquet import read_metadata

    counts = []
    for file in files:
        with fsspec.open(file, "rb") as opened:
            counts.append(int(read_metadata(opened).num_rows))
    return counts


def _count(dataset: Any, label: str, where: str) -> list[int]:
    """Counts the rows of each shard by reading all of them."""
    log.warning("%s does not state the number of images in its shards, so they are read once to count them", where)
    labels = dataset.select_columns([label])
    counts = []
    for shard in range(dataset.num_shards):
        try:
            rows = labels.shard(dataset.num_shards, shard).iter(batch_size=1024)
            counts.append(sum(len(batch[label]) for batch in rows))
        except Exception as error:  # as above
            raise DataError(f"{where}: shard {shard} cannot be read: {type(error).__name__}: {error}") from None
    return counts
