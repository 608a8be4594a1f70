"""CIFAR-10 (A. Krizhevsky, 2009) as parquet or in its binary format, never from pickles."""

import tarfile
from pathlib import Path

import torch

from zoo.data.classes import class_names
from zoo.data.image_set import ImageSet, check_labels
from zoo.data.readers import parquet
from zoo.errors import DataError

ARCHIVE = "cifar-10-binary.tar.gz"
_FOLDER = "cifar-10-batches-bin"
_FILES = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
_IMAGES, _RECORD = 10_000, 1 + 3 * 32 * 32  # in each file; a label, then red, green and blue planes


def read(place: Path, split: str) -> ImageSet | None:
    """The split in the folder ``place``, None if it is not there.

    Looks for ``cifar10/<split>-*.parquet``, ``cifar-10-batches-bin/`` and its archive. Raises
    :class:`DataError` naming the file that is damaged or missing.
    """
    classes = class_names("cifar10")
    if shards := parquet.find_shards(place / "cifar10", split):
        return parquet.read(shards, "cifar10", split, classes)
    for home in (place, place / "cifar10"):
        if (home / _FOLDER).is_dir():
            files = [home / _FOLDER / name for name in _FILES[split]]
            return _image_set(split, files, [_read_file(file) for file in files])
        if (home / ARCHIVE).is_file():
            return _image_set(split, [home / ARCHIVE / name for name in _FILES[split]], _unpack(home / ARCHIVE, split))
    return None


def _read_file(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(_IMAGES * _RECORD + 1)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}") from None


def _unpack(archive: Path, split: str) -> list[bytes]:
    """The bytes of the split's files, read from the archive and nowhere written."""
    found = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = member.name.rpartition("/")[2]
                if name in _FILES[split] and (stream := tar.extractfile(member)) is not None:
                    found[name] = stream.read(_IMAGES * _RECORD + 1)
        return [found[name] for name in _FILES[split]]
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(
            f"{archive}: cannot be read: {error}", hint="The file may be truncated: download it again."
        ) from None
    except KeyError as error:
        raise DataError(f"{archive}: {error} is missing from the archive.") from None


def _image_set(split: str, files: list[Path], contents: list[bytes]) -> ImageSet:
    classes = class_names("cifar10")
    parts = []
    for file, content in zip(files, contents, strict=True):
        if len(content) != _IMAGES * _RECORD:
            raise DataError(f"{file}: {len(content):,} bytes or more, expected {_IMAGES * _RECORD:,}.")
        records = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(_IMAGES, _RECORD)
        check_labels(records[:, 0].to(torch.int64), len(classes), str(file))
        parts.append(records)
    records = torch.cat(parts)
    labels, pixels = records[:, 0].to(torch.int64), records[:, 1:].reshape(-1, 3, 32, 32)
    return ImageSet("cifar10", split, classes, labels, pixels, origin=str(files[0].parent))
