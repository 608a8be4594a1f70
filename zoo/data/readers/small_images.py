"""Well-known data sets of images of one small size: digits, MNIST, Fashion-MNIST and CIFAR-10."""

import gzip
import math
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.data.classes import class_names
from zoo.data.image_set import ImageSet, check_labels, stratified_split
from zoo.data.readers import parquet
from zoo.errors import DataError, ManifestError, MissingExtraError
from zoo.registry import hooks
from zoo.system import storage

DIGITS_TEST_IMAGES = 360


def read_digits(split: str) -> ImageSet:
    """Reads ``train`` (1,437 images) or ``test`` (360), each in scikit-learn's order, uint8 N 1 8 8.

    The data set has no split of its own: this one is stratified and drawn by sha256 (see
    ``stratified_split``, salt ``digits``). Its grey levels 0 ... 16 become ``(255 * level + 8) // 16``,
    that is ``255 * level / 16`` rounded, halves upwards.
    """
    table = torch.from_numpy(_digits_table())
    levels, labels = table[:, :-1].reshape(-1, 1, 8, 8), table[:, -1]
    train, test = stratified_split(labels, DIGITS_TEST_IMAGES, "digits")
    chosen = train if split == "train" else test
    pixels = ((255 * levels + 8) // 16).to(torch.uint8)
    return ImageSet("digits", split, class_names("digits"), labels[chosen], pixels[chosen], origin="scikit-learn")


def _digits_table() -> Any:
    """Returns scikit-learn's table of digits: 64 grey levels and the label a row, int64.

    Its file is read in place: importing scikit-learn takes longer than importing torch.
    """
    try:
        file = hooks.resource("sklearn:datasets/data/digits.csv.gz")
    except ManifestError:
        raise MissingExtraError.of("The data set digits", "scikit-learn", "zoo-vision[data]") from None
    if file.is_file():
        return np.loadtxt(file, np.int64, delimiter=",")
    from sklearn.datasets import load_digits  # a release that keeps its data elsewhere

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target]).astype(np.int64)


MAX_ARRAY_BYTES = 1 << 30
"""Bytes of the largest array; more is refused before it is read."""

_TORCHVISION = {"mnist": "MNIST/raw", "fashion_mnist": "FashionMNIST/raw"}
_IDX_PREFIX = {"train": "train", "test": "t10k"}


def read_mnist(name: str, place: Path, split: str) -> ImageSet | None:
    """Reads the split of ``mnist`` or ``fashion_mnist`` in the folder ``place``, None if it is not there.

    Looks for ``<name>/*-ubyte.gz`` (or unzipped), torchvision's ``MNIST/raw``, and ``<name>.npz``.
    Raises :class:`DataError` naming the file that is damaged or missing.
    """
    for folder in (place / name, place / _TORCHVISION[name]):
        if folder.is_dir() and any(folder.glob("*-ubyte*")):
            images = _find_idx(folder, f"{_IDX_PREFIX[split]}-images-idx3-ubyte")
            labels = _find_idx(folder, f"{_IDX_PREFIX[split]}-labels-idx1-ubyte")
            return _mnist_set(name, split, read_idx(images, 3), read_idx(labels, 1), images, labels)
    for file in (place / f"{name}.npz", place / name / f"{name}.npz"):
        if file.is_file():
            pixels, values = read_npz(file, [f"x_{split}", f"y_{split}"])
            return _mnist_set(name, split, pixels, values, file, file)
    return None


def _find_idx(folder: Path, name: str) -> Path:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    raise DataError(f"{folder / name}.gz is missing, but other files of the data set exist.")


def _mnist_set(name: str, split: str, images: Any, labels: Any, images_file: Path, labels_file: Path) -> ImageSet:
    if images.dtype != np.uint8 or images.ndim != 3:
        raise DataError(f"{images_file}: images are {images.dtype} {images.shape}, expected uint8 (N, H, W).")
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise DataError(f"{labels_file}: labels are {labels.dtype} {labels.shape}, expected {len(images)} integers.")
    classes = class_names(name)
    values = torch.from_numpy(labels.astype(np.int64))
    check_labels(values, len(classes), str(labels_file))
    return ImageSet(name, split, classes, values, torch.from_numpy(images)[:, None], origin=str(images_file))


def read_idx(file: Path, dimensions: int) -> Any:
    """Reads the uint8 array of an IDX file; raises :class:`DataError` unless it is whole and of ``dimensions``."""
    try:
        with storage.open_regular(file) as raw, gzip.open(raw) if file.suffix == ".gz" else raw as stream:
            header = stream.read(4 + 4 * dimensions)
            if len(header) < 4 + 4 * dimensions or header[:4] != bytes([0, 0, 8, dimensions]):
                raise DataError(f"{file}: not an IDX file of bytes in {dimensions} dimensions.")
            shape = tuple(int(side) for side in np.frombuffer(header[4:], ">u4"))
            size = math.prod(shape)
            if size > MAX_ARRAY_BYTES:
                raise DataError(f"{file}: states the shape {shape}, more than {MAX_ARRAY_BYTES:,} bytes.")
            data = bytearray(stream.read(size + 1))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{file}: cannot be read: {error}", hint="The file may be truncated: download it again."
        ) from None
    if len(data) != size:
        raise DataError(f"{file}: {'more' if len(data) > size else 'fewer'} bytes than the {size:,} of {shape}.")
    return np.frombuffer(data, np.uint8).reshape(shape)


def read_npz(file: Path, names: list[str]) -> list[Any]:
    """Reads the arrays ``names`` of an npz file, never unpickling; raises :class:`DataError`."""
    arrays = []
    try:
        with storage.open_regular(file) as raw, zipfile.ZipFile(raw) as archive:
            sizes = {member.filename: member.file_size for member in archive.infolist()}
            for name in names:
                if f"{name}.npy" not in sizes:
                    raise DataError(f"{file}: no array {name!r}, only {', '.join(sorted(sizes))}.")
                if sizes[f"{name}.npy"] > MAX_ARRAY_BYTES:
                    raise DataError(f"{file}: {name} holds more than {MAX_ARRAY_BYTES:,} bytes.")
                with archive.open(f"{name}.npy") as member:
                    arrays.append(np.lib.format.read_array(member, allow_pickle=False))
    except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, NotImplementedError, MemoryError) as error:
        raise DataError(
            f"{file}: cannot be read: {error}", hint="The file may be truncated: download it again."
        ) from None
    return arrays


CIFAR10_ARCHIVE = "cifar-10-binary.tar.gz"
_CIFAR10_FOLDER = "cifar-10-batches-bin"
_CIFAR10_FILES = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
_CIFAR10_IMAGES, _CIFAR10_RECORD = 10_000, 1 + 3 * 32 * 32  # in each file; a label, then red, green and blue planes


def read_cifar10(place: Path, split: str) -> ImageSet | None:
    """Reads the split in the folder ``place``, None if it is not there.

    Looks for ``cifar10/<split>-*.parquet``, ``cifar-10-batches-bin/`` and its archive. Raises
    :class:`DataError` naming the file that is damaged or missing.
    """
    classes = class_names("cifar10")
    if shards := parquet.find_shards(place / "cifar10", split):
        return parquet.read(shards, "cifar10", split, classes)
    for home in (place, place / "cifar10"):
        if (home / _CIFAR10_FOLDER).is_dir():
            files = [home / _CIFAR10_FOLDER / name for name in _CIFAR10_FILES[split]]
            return _cifar10_set(split, files, [_read_file(file) for file in files])
        if (home / CIFAR10_ARCHIVE).is_file():
            return _cifar10_set(
                split,
                [home / CIFAR10_ARCHIVE / name for name in _CIFAR10_FILES[split]],
                _unpack(home / CIFAR10_ARCHIVE, split),
            )
    return None


def _read_file(file: Path) -> bytes:
    try:
        with storage.open_regular(file) as stream:
            return stream.read(_CIFAR10_IMAGES * _CIFAR10_RECORD + 1)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}") from None


def _unpack(archive: Path, split: str) -> list[bytes]:
    """Returns the bytes of the split's files, read from the archive and nowhere written."""
    contents = {}
    try:
        with storage.open_regular(archive) as raw, tarfile.open(fileobj=raw, mode="r:gz") as tar:
            for member in tar:
                name = member.name.rpartition("/")[2]
                if name in _CIFAR10_FILES[split] and (stream := tar.extractfile(member)) is not None:
                    contents[name] = stream.read(_CIFAR10_IMAGES * _CIFAR10_RECORD + 1)
        return [contents[name] for name in _CIFAR10_FILES[split]]
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(
            f"{archive}: cannot be read: {error}", hint="The file may be truncated: download it again."
        ) from None
    except KeyError as error:
        raise DataError(f"{archive}: {error} is missing from the archive.") from None


def _cifar10_set(split: str, files: list[Path], contents: list[bytes]) -> ImageSet:
    classes = class_names("cifar10")
    parts = []
    for file, content in zip(files, contents, strict=True):
        if len(content) != _CIFAR10_IMAGES * _CIFAR10_RECORD:
            raise DataError(f"{file}: {len(content):,} bytes or more, expected {_CIFAR10_IMAGES * _CIFAR10_RECORD:,}.")
        records = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(_CIFAR10_IMAGES, _CIFAR10_RECORD)
        check_labels(records[:, 0].to(torch.int64), len(classes), str(file))
        parts.append(records)
    records = torch.cat(parts)
    labels, pixels = records[:, 0].to(torch.int64), records[:, 1:].reshape(-1, 3, 32, 32)
    return ImageSet("cifar10", split, classes, labels, pixels, origin=str(files[0].parent))
