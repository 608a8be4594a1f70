"""Image folders: ``DIR/split/class/*`` or, without splits, ``DIR/class/*``."""

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from zoo.data.image_file import SUFFIXES, count_channels, open_image, read_image, to_pixels, upright_size
from zoo.data.image_set import MAX_RESIDENT_BYTES, ImageSet
from zoo.errors import DataError
from zoo.system import storage

_SPLITS = ("train", "test", "val", "valid", "validation")
_SAME = {"validation": ("validation", "val", "valid"), "val": ("val", "validation", "valid")}


def read(folder: Path, split: str) -> ImageSet:
    """Reads the images below ``folder``, by class, folder and file in the order of code points, as in torchvision.

    ``validation`` is also found as ``val``. A folder without splits is one set, whichever split is
    asked for, and is named ``all``. The classes of ``train``, if it is there, number those of the
    other splits. Files that are not images by their suffix, and hidden ones, are passed over. Raises
    :class:`DataError` for a missing split, an empty folder or class, and a damaged header.
    """
    splits = splits_of(folder)
    if not splits:
        return _read(folder, folder.name, "all", _subfolders(folder))
    for name in _SAME.get(split, (split,)):
        if (folder / name).is_dir():
            break
    else:
        raise DataError(f"{folder}: no split {split!r}.", hint=f"Splits: {', '.join(splits)}.")
    classes = _subfolders(folder / name)
    if "train" in splits and name != "train":
        train_classes = _subfolders(folder / "train")
        if surplus := sorted(set(classes) - set(train_classes)):
            raise DataError(f"{folder / name / surplus[0]}: no such class in {folder / 'train'}.")
        classes = train_classes
    return _read(folder / name, folder.name, split, classes)


def splits_of(folder: Path) -> list[str]:
    """Returns the splits that ``folder`` has folders of; [] if its folders are classes."""
    return [name for name in _SPLITS if (folder / name).is_dir()]


def _subfolders(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise DataError(f"{folder}: no folders of images, expected one per class.")
    return names


def _read(folder: Path, name: str, split: str, classes: list[str]) -> ImageSet:
    files: list[Path] = []
    labels: list[int] = []
    for label, class_name in enumerate(classes):
        below = [path for path in (folder / class_name).rglob("*") if path.suffix.lower() in SUFFIXES]
        below.sort(key=lambda path: (str(path.parent), path.name))
        images = [path for path in below if not path.name.startswith(".") and path.is_file()]
        if not images and (folder / class_name).is_dir():
            raise DataError(f"{folder / class_name}: no images.")
        files += images
        labels += [label] * len(images)
    sizes, has_color = set(), False
    for file in files:
        with open_image(file, str(file)) as image:
            sizes.add(upright_size(image))
            has_color = has_color or count_channels(image) == 3
    reader = _Files(files, 3 if has_color else 1)
    pixels = None
    if len(sizes) == 1:
        width, height = sizes.pop()
        if len(files) * reader.channels * height * width <= MAX_RESIDENT_BYTES:
            pixels = torch.empty((len(files), reader.channels, height, width), dtype=torch.uint8)
            for index in range(len(files)):
                pixels[index] = to_pixels(reader(index))
    return ImageSet(
        name,
        split,
        tuple(classes),
        torch.tensor(labels, dtype=torch.int64),
        pixels,
        read=None if pixels is not None else reader,
        channels=reader.channels,
        origin=str(folder),
        files=tuple(map(str, files)),
    )


@dataclass(frozen=True)
class _Files:
    files: list[Path]
    channels: int

    def __call__(self, index: int) -> Image.Image:
        file = self.files[index]
        return read_image(file, str(file), self.channels)

    def encoded(self, index: int) -> bytes:
        return storage.read_bounded(self.files[index], 1 << 28)
