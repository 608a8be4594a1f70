"""Caltech-101 (Fei-Fei, Fergus, Perona 2004): photographs of several sizes, as a tar or as a folder.

It has no split of its own. The field draws 15 or 30 training images of each class at random, tests on
the others, and reports the mean over classes of several such draws.
"""

import hashlib
import os
import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import torch
from PIL import Image

from zoo.data.image_file import SUFFIXES, check_unfolded, read_image
from zoo.data.image_set import ImageSet
from zoo.errors import DataError
from zoo.system import storage

NAME = "caltech101"
PER_CLASS = 15
_PLACES = ("caltech101", "101_ObjectCategories", "caltech101/101_ObjectCategories")
_TAR = re.compile(r"(caltech101.*|101_ObjectCategories)\.tar(\.gz)?")
_MAX_BYTES = 1 << 26
"""Bytes of the largest encoded image."""


def is_name(text: str) -> bool:
    """Returns whether ``text`` is ``caltech101``, ``caltech101:PER_CLASS`` or ``caltech101:PER_CLASS:DRAW``."""
    return re.fullmatch(rf"{NAME}(:[1-9]\d*(:\d+)?)?", text, re.ASCII) is not None


def read(place: Path, name: str, split: str) -> ImageSet | None:
    """Reads the split of the draw that ``name`` means in the folder ``place``, None if Caltech-101 is not there.

    ``train`` has so many images of each of the 102 classes (the background is one), 15 unless the name
    says otherwise, ``test`` all others. Images are in colour and decoded on demand. Looks for a folder
    ``caltech101/`` or ``101_ObjectCategories/`` with one folder per class, then for a tar archive, gzipped or
    not, whose name begins so. Raises :class:`DataError` for a damaged archive and a class that is too small.
    """
    if (source := _find(place)) is None:
        return None
    origin, files = source
    names = sorted(files)
    classes = tuple(sorted({PurePosixPath(file).parent.name for file in names}))
    number = {class_name: label for label, class_name in enumerate(classes)}
    labels = [number[PurePosixPath(file).parent.name] for file in names]
    chosen = draw([PurePosixPath(file).parts[-2:] for file in names], *_parse_name(name), split)
    return ImageSet(
        name,
        split,
        classes,
        torch.tensor([labels[index] for index in chosen]),
        read=_Files([(names[index], files[names[index]]) for index in chosen]),
        channels=3,
        origin=str(origin),
    )


def draw(files: list[tuple[str, ...]], per_class: int, number: int, split: str) -> list[int]:
    """Returns the places of a split's images among ``files`` (class, name), ascending.

    Of each class, those train whose ``sha256("caltech101 <number> <class>/<name>")`` is least, so no
    library's random generator has a say.
    """
    groups: dict[str, list[int]] = {}
    for index, (class_name, _) in enumerate(files):
        groups.setdefault(class_name, []).append(index)
    chosen: list[int] = []
    for class_name, indices in groups.items():
        if len(indices) <= per_class:
            raise DataError(
                f"{NAME}: {per_class} training images per class requested, but {class_name} has {len(indices)}.",
                hint=f"At least one must remain for testing. Usual numbers are 15 and 30: {NAME}:30.",
            )
        ranks = {i: hashlib.sha256(f"{NAME} {number} {'/'.join(files[i])}".encode()).digest() for i in indices}
        indices = sorted(indices, key=ranks.__getitem__)
        chosen += indices[:per_class] if split == "train" else indices[per_class:]
    return sorted(chosen)


def _parse_name(name: str) -> tuple[int, int]:
    """Returns the training images of a class, and the number of the draw."""
    _, per_class, number, *_ = [*name.split(":"), "", ""]
    return int(per_class or PER_CLASS), int(number or 0)


_Source = Callable[[], bytes]


def _find(place: Path) -> tuple[Path, dict[str, _Source]] | None:
    """Returns its folder or archive, and a function that reads each ``class/image``."""
    for folder in (place / name for name in _PLACES):
        if folder.is_dir() and (files := _in_folder(folder)):
            return folder, files
    archives = [file for file in sorted(place.glob("*.tar*")) if _TAR.fullmatch(file.name)]
    return (archives[0], _in_archive(archives[0])) if archives else None


def _in_folder(folder: Path) -> dict[str, _Source]:
    return {
        f"{file.parent.name}/{file.name}": file.read_bytes
        for file in folder.glob("*/*")
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
    }


def _in_archive(archive: Path) -> dict[str, _Source]:
    """Returns the images of an archive: of a plain tar, read when asked for; of a gzipped one, in memory."""
    files: dict[str, _Source] = {}
    # As its name says: tarfile would try others, and lzma's reads zeros without an end.
    mode: Literal["r:gz", "r:"] = "r:gz" if archive.suffix == ".gz" else "r:"
    try:
        with storage.open_regular(archive) as stream, tarfile.open(fileobj=stream, mode=mode) as tar:
            for member in tar:
                if archive.suffix == ".gz":
                    check_unfolded(member.offset_data + member.size, archive)  # images or not
                path = PurePosixPath(member.name)
                if not member.isfile() or path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
                    continue
                if member.size > _MAX_BYTES or len(path.parts) < 2:
                    raise DataError(f"{archive}: {member.name} is not an image in a class folder.")
                name = "/".join(path.parts[-2:])
                if archive.suffix == ".gz":
                    content = tar.extractfile(member)
                    assert content is not None  # of a file
                    files[name] = _Content(content.read())
                else:
                    files[name] = _Part(archive, member.offset_data, member.size)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(
            f"{archive}: cannot be read: {error}", hint="The file may be truncated: download it again."
        ) from None
    if not files:
        raise DataError(f"{archive}: contains no images.")
    return files


@dataclass(frozen=True)
class _Content:
    content: bytes

    def __call__(self) -> bytes:
        return self.content


@dataclass(frozen=True)
class _Part:
    """A part of a file, opened for each reading: threads and processes share nothing."""

    file: Path
    offset: int
    size: int

    def __call__(self) -> bytes:
        with self.file.open("rb") as stream:
            return os.pread(stream.fileno(), self.size, self.offset)


@dataclass(frozen=True)
class _Files:
    files: list[tuple[str, _Source]]

    def __call__(self, index: int) -> Image.Image:
        name, _ = self.files[index]
        return read_image(self.encoded(index), name, channels=3)

    def encoded(self, index: int) -> bytes:
        return self.files[index][1]()
