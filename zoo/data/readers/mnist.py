"""MNIST and similar data sets: IDX files, gzipped or not, or one npz like Keras's."""

import gzip
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.data.classes import class_names
from zoo.data.image_set import ImageSet, check_labels
from zoo.errors import DataError

MAX_BYTES = 1 << 30
"""More than this in one array is refused before it is read."""

_TORCHVISION = {"mnist": "MNIST/raw", "fashion_mnist": "FashionMNIST/raw"}
_PREFIX = {"train": "train", "test": "t10k"}


def read(name: str, place: Path, split: str) -> ImageSet | None:
    """The split of ``mnist`` or ``fashion_mnist`` in the folder ``place``, None if it is not there.

    Looks for ``<name>/*-ubyte.gz`` (or unzipped), torchvision's ``MNIST/raw``, and ``<name>.npz``.
    Raises :class:`DataError` naming the file that is damaged or missing.
    """
    for folder in (place / name, place / _TORCHVISION[name]):
        if folder.is_dir() and any(folder.glob("*-ubyte*")):
            images = _find(folder, f"{_PREFIX[split]}-images-idx3-ubyte")
            labels = _find(folder, f"{_PREFIX[split]}-labels-idx1-ubyte")
            return _image_set(name, split, read_idx(images, 3), read_idx(labels, 1), images, labels)
    for file in (place / f"{name}.npz", place / name / f"{name}.npz"):
        if file.is_file():
            pixels, values = read_npz(file, [f"x_{split}", f"y_{split}"])
            return _image_set(name, split, pixels, values, file, file)
    return None


def _find(folder: Path, name: str) -> Path:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    raise DataError(f"{folder / name}.gz is missing, but other files of the data set exist.")


def _image_set(name: str, split: str, images: Any, labels: Any, images_file: Path, labels_file: Path) -> ImageSet:
    if images.dtype != np.uint8 or images.ndim != 3:
        raise DataError(f"{images_file}: images are {images.dtype} {images.shape}, expected uint8 (N, H, W).")
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise DataError(f"{labels_file}: labels are {labels.dtype} {labels.shape}, expected {len(images)} integers.")
    classes = class_names(name)
    values = torch.from_numpy(labels.astype(np.int64))
    check_labels(values, len(classes), str(labels_file))
    return ImageSet(name, split, classes, values, torch.from_numpy(images)[:, None], origin=str(images_file))


def read_idx(file: Path, dimensions: int) -> Any:
    """The uint8 array of an IDX file; raises :class:`DataError` unless it is whole and of that many dimensions."""
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            header = stream.read(4 + 4 * dimensions)
            if len(header) < 4 + 4 * dimensions or header[:4] != bytes([0, 0, 8, dimensions]):
                raise DataError(f"{file}: not an IDX file of bytes in {dimensions} dimensions.")
            shape = tuple(int(side) for side in np.frombuffer(header[4:], ">u4"))
            size = math.prod(shape)
            if size > MAX_BYTES:
                raise DataError(f"{file}: states the shape {shape}, more than {MAX_BYTES:,} bytes.")
            data = bytearray(stream.read(size + 1))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{file}: cannot be read: {error}", hint="The file may be truncated: download it again."
        ) from None
    if len(data) != size:
        raise DataError(f"{file}: {'more' if len(data) > size else 'fewer'} bytes than the {size:,} of {shape}.")
    return np.frombuffer(data, np.uint8).reshape(shape)


def read_npz(file: Path, names: list[str]) -> list[Any]:
    """The arrays ``names`` of an npz file, never unpickling; raises :class:`DataError`."""
    arrays = []
    try:
        with zipfile.ZipFile(file) as archive:
            sizes = {member.filename: member.file_size for member in archive.infolist()}
            for name in names:
                if f"{name}.npy" not in sizes:
                    raise DataError(f"{file}: no array {name!r}, only {', '.join(sorted(sizes))}.")
                if sizes[f"{name}.npy"] > MAX_BYTES:
                    raise DataError(f"{file}: {name} holds more than {MAX_BYTES:,} bytes.")
                with archive.open(f"{name}.npy") as member:
                    arrays.append(np.lib.format.read_array(member, allow_pickle=False))
    except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, NotImplementedError, MemoryError) as error:
        raise DataError(
            f"{file}: cannot be read: {error}", hint="The file may be truncated: download it again."
        ) from None
    return arrays
