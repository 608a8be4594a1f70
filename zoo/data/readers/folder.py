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
    :class:`DataError` for a missing split, an empty folder or class, a folder of data sets (:func:`require_level`), and
    damaged headers, all of them.
    """
    require_level(folder)
    splits = splits_of(folder)
    if not splits:
        return _read(folder, folder.name, "all", subfolders(folder))
    for name in _SAME.get(split, (split,)):
        if (folder / name).is_dir():
            break
    else:
        raise DataError(f"{folder}: no split {split!r}.", hint=f"Splits: {', '.join(splits)}.")
    classes = subfolders(folder / name)
    if "train" in splits and name != "train":
        train_classes = subfolders(folder / "train")
        if surplus := sorted(set(classes) - set(train_classes)):
            raise DataError(f"{folder / name / surplus[0]}: no such class in {folder / 'train'}.")
        classes = train_classes
    return _read(folder / name, folder.name, split, classes)


def splits_of(folder: Path) -> list[str]:
    """Returns the splits that ``folder`` has folders of; [] if its folders are classes."""
    return [name for name in _SPLITS if (folder / name).is_dir()]


def require_level(folder: Path) -> None:
    """Raises :class:`DataError` if the folders of ``folder``, which would be its classes, have splits themselves."""
    if splits_of(folder):
        return
    divided = [path for path in sorted(folder.iterdir()) if path.is_dir() and "train" in splits_of(path)]
    if not divided:
        return
    inner = divided[0]
    if any(path.is_dir() and not path.name.startswith(".") for path in (inner / "train").iterdir()):
        raise DataError(
            f"{folder} is not a data set, but holds one: {inner.name!r} would be a class, its test images trained on.",
            hint=f"Did you mean {inner}?",
        )
    if len(splits_of(inner)) > 1:
        raise DataError(
            f"{inner} has the splits {' and '.join(splits_of(inner))}, which belong above the classes.",
            hint=f"Move the images to {folder / 'train' / inner.name} and so on.",
        )


def images_below(folder: Path) -> list[Path]:
    """Returns the images of a class, by folder and file in the order of code points."""
    below = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]
    below.sort(key=lambda path: (str(path.parent), path.name))
    return [path for path in below if not path.name.startswith(".") and path.is_file()]


def subfolders(folder: Path) -> list[str]:
    """Returns the names of the folders in ``folder``, without hidden ones; raises :class:`DataError` without any."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise DataError(f"{folder}: no folders of images, expected one per class.")
    return names


def _read(folder: Path, name: str, split: str, classes: list[str]) -> ImageSet:
    files: list[Path] = []
    labels: list[int] = []
    for label, class_name in enumerate(classes):
        images = images_below(folder / class_name)
        if not images and (folder / class_name).is_dir():
            raise DataError(f"{folder / class_name}: no images.")
        files += images
        labels += [label] * len(images)
    sizes, has_color = set(), False
    damaged: list[DataError] = []
    for file in files:
        try:
            with open_image(file, str(file)) as image:
                sizes.add(upright_size(image))
                has_color = has_color or count_channels(image) == 3
        except DataError as error:
            damaged.append(error)
    if len(damaged) == 1:
        raise damaged[0]
    if damaged:
        reasons = "\n  ".join(error.message for error in damaged)
        raise DataError(f"{folder}: {len(damaged)} images cannot be read:\n  {reasons}", hint=damaged[0].hint)
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
