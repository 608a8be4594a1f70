"""Writes WebDataset shards, and counts existing ones."""

import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import msgspec
import torch

from zoo.data.decode import open_image
from zoo.data.image_set import ImageSet
from zoo.data.readers.remote_file import place_at
from zoo.data.readers.webdataset import INFO, Info, Split, read_info, samples
from zoo.errors import DataError, MissingExtraError
from zoo.system import storage

_NUMBERED = re.compile(r"(?P<split>.+?)[-_.]?\d+\.tar")
_SUFFIXES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}


def write_shards(images: ImageSet, folder: str | Path, *, per_shard: int = 1000, seed: int | None = 0) -> Path:
    """Writes images into a folder as WebDataset shards.

    JPEG, PNG and WebP files are copied as they are; other images are written as PNG. The same images give the same
    bytes. Other splits in the folder are not changed.

    Args:
        images: The images of a split.
        folder: The folder.
        per_shard: Images in a shard.
        seed: Decides the order of a split ``train``, so that each shard has many classes. None, as for other splits,
            leaves the order, and the fingerprint, as they are.

    Returns:
        The file ``_info.json``, which describes the shards.

    Raises:
        DataError: The folder has this split already, or another data set.
        MissingExtraError: ``webdataset`` is not installed.

    Example:
        >>> import zoo
        >>> info = zoo.data.write_shards(zoo.data.load("digits", "test"), "shards", per_shard=200)
        >>> sorted(file.name for file in info.parent.iterdir())
        ['_info.json', 'test-000000.tar', 'test-000001.tar']
    """
    try:
        from webdataset.writer import TarWriter
    except ImportError:
        raise MissingExtraError.of("Writing .tar shards", "webdataset", "zoo-vision[stream]") from None
    folder = Path(folder).expanduser()
    info = _info_for(images, folder)
    folder.mkdir(parents=True, exist_ok=True)
    every = torch.arange(len(images))
    if seed is not None and images.split == "train":
        every = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    split = Split([], [], images.split)
    parts = [every[start : start + per_shard] for start in range(0, len(every), per_shard)]
    for number, part in enumerate(parts):
        file = folder / f"{images.split}-{number:06d}.tar"
        with storage.beside(file) as stream, TarWriter(stream, encoder=False, mtime=0) as tar:
            for index in part.tolist():
                suffix, encoded = _encode(images, index)
                label = str(int(images.labels[index])).encode("ascii")
                tar.write({"__key__": f"{index:08d}", suffix: encoded, "cls": label})
        split.filenames.append(file.name)
        split.shard_lengths.append(len(part))
    info.splits[images.split] = split
    return _write_info(folder, info)


def index_shards(folder: str | Path, classes: Sequence[str] = (), *, name: str = "", channels: int = 3) -> Path:
    """Counts the images of the .tar files in a folder and writes its ``_info.json``.

    The split of a file is the part of its name before the number (``train-000012.tar``), or the folder within
    ``folder`` that contains it.

    Args:
        folder: The folder.
        classes: Names of the classes, in label order, unless ``classes.txt`` has them.
        name: What to call the data set. By default the name of its folder.
        channels: 1 or 3.

    Returns:
        The file ``_info.json``.

    Raises:
        DataError: There are no .tar files, or one is damaged.
        MissingExtraError: ``webdataset`` is not installed.

    Example:
        >>> import zoo
        >>> digits = zoo.data.load("digits", "test")
        >>> folder = zoo.data.write_shards(digits, "shards").parent
        >>> info = zoo.data.index_shards(folder, digits.classes, channels=1)
        >>> zoo.data.splits(folder)
        ['test']
    """
    folder = Path(folder).expanduser()
    files = sorted(file.relative_to(folder) for pattern in ("*.tar", "*/*.tar") for file in folder.glob(pattern))
    if not files:
        raise DataError(f"{folder}: no .tar files.")
    info = Info({}, name=name, classes=list(classes), channels=channels)
    for file in files:
        match = _NUMBERED.fullmatch(file.name)
        split = file.parent.name or (match["split"] if match else file.stem)
        part = info.splits.setdefault(split, Split([], [], split))
        part.filenames.append(file.as_posix())
        part.shard_lengths.append(sum(1 for _ in samples(place_at(folder), file.as_posix())))
    return _write_info(folder, info)


def _info_for(images: ImageSet, folder: Path) -> Info:
    """The description to add a split to."""
    fresh = Info({}, name=images.name, classes=list(images.classes), channels=images.channels)
    if not (folder / INFO).is_file():
        return fresh
    held = read_info(place_at(folder))
    if images.split in held.splits:
        raise DataError(f"{folder} already contains the split {images.split!r}.", hint="Choose another folder.")
    if (held.name, held.classes, held.channels) != (fresh.name, fresh.classes, fresh.channels):
        raise DataError(
            f"{folder} holds {held.name!r} with {len(held.classes)} classes and {held.channels} channels; "
            f"got {fresh.name!r} with {len(fresh.classes)} and {fresh.channels}.",
            hint="Choose another folder.",
        )
    return held


def _write_info(folder: Path, info: Info) -> Path:
    """Replaces the ``_info.json`` of ``folder`` in one step."""
    for part in info.splits.values():
        part.num_samples = sum(part.shard_lengths)
    file = folder / INFO
    storage.replace(file, msgspec.json.format(msgspec.json.encode(info), indent=2) + b"\n")
    return file


def _encode(images: ImageSet, index: int) -> tuple[str, bytes]:
    """The suffix and the bytes of a file of image ``index``."""
    encoded = images.encoded(index)
    if encoded is not None:
        with open_image(encoded, f"{images.origin} image {index}") as image:
            if (image.format or "") in _SUFFIXES:
                return _SUFFIXES[image.format or ""], encoded
    file = BytesIO()
    images.image(index).save(file, "PNG")
    return "png", file.getvalue()
