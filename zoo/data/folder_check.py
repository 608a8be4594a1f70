"""Faults of a folder of images, by names, counts and headers: no image is decoded, and nothing is changed."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from zoo.data.image_file import SUFFIXES, count_channels, open_image, orientation, upright_size
from zoo.data.readers import folder as reader
from zoo.errors import DataError

_IMBALANCE = 10
"""Ratio of images of the largest class to the smallest from which it is a warning."""

_FEW = 20
"""Images of a class below which its score says little."""

_IGNORED = frozenset({"thumbs.db", "desktop.ini"})


class Finding(msgspec.Struct, frozen=True):
    """Something about a data set, and what to do.

    An ``error`` keeps a network from being trained, a ``warning`` makes its score worse or wrong, a ``note`` is good to
    know. ``files`` are relative to the data set's folder; ``groups`` are those of its images that belong together.
    """

    kind: str
    level: Literal["error", "warning", "note"]
    message: str
    advice: str
    files: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Listing:
    """The images of a folder by split and class: ``images["train"]["crow"]``; the split is "all" without splits."""

    folder: Path
    images: dict[str, dict[str, list[Path]]]

    def relative(self, file: Path) -> str:
        return file.relative_to(self.folder).as_posix()

    @property
    def classes(self) -> list[str]:
        """The classes of ``train``, or else of all splits."""
        splits = self.images.values()
        return (
            [*self.images["train"]] if "train" in self.images else sorted({name for split in splits for name in split})
        )


def list_images(folder: Path) -> Listing:
    """Lists the images below ``folder``, as :func:`zoo.data.readers.folder.read` finds them."""
    splits = reader.splits_of(folder)
    tops = {split: folder / split for split in splits} if splits else {"all": folder}
    images = {
        split: {name: reader.images_below(top / name) for name in reader.subfolders(top)} for split, top in tops.items()
    }
    return Listing(folder, images)


def check_structure(folder: Path) -> list[Finding]:
    """Finds what names and counts show: a level too high, one class, empty classes, files passed over, imbalance."""
    try:
        reader.require_level(folder)
        listing = list_images(folder)
    except DataError as error:
        return [Finding("level", "error", error.message, error.hint)]
    findings: list[Finding] = []
    if len(listing.classes) == 1:
        refusal = one_class(listing.classes[0], folder)
        findings.append(Finding("one class", "error", refusal.message, refusal.hint))
    return findings + _empty_classes(listing) + _passed_over(listing) + _counts(listing)


def check_headers(listing: Listing) -> list[Finding]:
    """Finds what the headers of images show: damage, orientation, modes and sizes."""
    damaged: dict[str, str] = {}
    turned: list[str] = []
    transparent: list[str] = []
    sizes: list[tuple[int, int]] = []
    modes: Counter[str] = Counter()
    channels: Counter[int] = Counter()
    for split in listing.images.values():
        for files in split.values():
            for file in files:
                name = listing.relative(file)
                try:
                    with open_image(file, name) as image:
                        size = upright_size(image)
                        sizes.append(size)
                        modes[image.mode] += 1
                        channels[count_channels(image)] += 1
                        if orientation(image) > 1:
                            turned.append(name)
                        if image.has_transparency_data:
                            transparent.append(name)
                except DataError as error:
                    damaged[name] = error.message
    findings = [unreadable(damaged)] if damaged else []
    if turned:
        message = f"{_count(turned)} turned by {'their' if len(turned) > 1 else 'its'} EXIF orientation."
        advice = "Nothing to do: Zoo shows them upright. Other programs may not: turn the pixels before you use one."
        findings.append(Finding("orientation", "note", message, advice, tuple(turned)))
    if transparent:
        message = f"{_count(transparent)} transparent."
        findings.append(
            Finding("transparency", "note", message, "They are laid on white; nothing to do.", tuple(transparent))
        )
    if len(channels) > 1:
        message = f"{channels[1]:,} grey and {channels[3]:,} colour images ({_tally(modes)})."
        advice = "Grey is repeated in three channels. If only some classes are grey, the network learns that instead."
        findings.append(Finding("modes", "note", message, advice))
    if len({*sizes}) > 1:
        low, high = min(sizes, key=min), max(sizes, key=max)
        message = f"Images are of {len({*sizes}):,} sizes, from {low[0]} x {low[1]} to {high[0]} x {high[1]}."
        advice = "They are resized and cropped to the network's input; small ones become blurred."
        findings.append(Finding("sizes", "note", message, advice))
    return findings


def unreadable(damaged: dict[str, str]) -> Finding:
    """Returns the finding that the files ``damaged``, with the reasons, cannot be read."""
    reasons = "; ".join(reason if name in reason else f"{name}: {reason}" for name, reason in damaged.items())
    message = f"{len(damaged):,} image{'s' if len(damaged) > 1 else ''} cannot be read: {reasons}"
    return Finding("unreadable", "error", message, "Download or convert them again, or move them away.", tuple(damaged))


def one_class(name: str, folder: Path | None = None) -> DataError:
    """Returns the error that the data set in ``folder`` has the one class ``name``."""
    below = _inner(folder, name) if folder is not None else None
    hint = "A folder for each class is expected: photos/train/crow/1.png, photos/train/jay/1.png."
    if below is not None:
        hint = f"The classes seem to be the folders in {below}: " + (
            f"--data {below}" if below.parent == folder else f"move them to {below.parent}."
        )
    return DataError(f"{folder or 'The data set'} has one class, {name!r}: there is nothing to tell apart.", hint=hint)


def _inner(folder: Path, name: str) -> Path | None:
    """Returns the folder of the only class ``name`` if it holds folders of images, and no images itself."""
    splits = reader.splits_of(folder)
    top = folder / splits[0] / name if splits else folder / name
    inner = [path for path in top.iterdir() if path.is_dir()] if top.is_dir() else []
    is_nested = len(inner) > 1 and not any(path.suffix.lower() in SUFFIXES for path in top.iterdir() if path.is_file())
    return top if is_nested else None


def _empty_classes(listing: Listing) -> list[Finding]:
    findings: list[Finding] = []
    for split, classes in listing.images.items():
        top = listing.folder if split == "all" else listing.folder / split
        empty = [name for name, files in classes.items() if not files]
        if empty:
            message = f"{top}: no images in {_names(empty)}."
            advice = "Remove the folder, or put images into it: .jpg, .png, .webp, .bmp, .tif, .gif or .ppm."
            findings.append(Finding("empty class", "error", message, advice))
        missing = [name for name in listing.classes if name not in classes]
        if missing and split != "train":
            message = f"{top}: no folder of {_names(missing)}, so {split} says nothing about it."
            findings.append(Finding("missing class", "warning", message, f"Put images of it into {top}."))
        surplus = [name for name in classes if name not in listing.classes]
        if surplus:
            message = f"{top}: {_names(surplus)} is no class of {listing.folder / 'train'}."
            advice = "Check the spelling of the folder's name, or add the class to train."
            findings.append(Finding("surplus class", "error", message, advice))
    return findings


def _passed_over(listing: Listing) -> list[Finding]:
    """Finds files that are not read: loose ones beside the classes, and those of other formats."""
    findings: list[Finding] = []
    loose: list[str] = []
    other: list[str] = []
    for split, classes in listing.images.items():
        top = listing.folder if split == "all" else listing.folder / split
        loose += [listing.relative(file) for file in sorted(top.iterdir()) if file.suffix.lower() in SUFFIXES]
        for name in classes:
            for file in sorted((top / name).rglob("*")):
                is_shown = not file.name.startswith(".") and file.name.lower() not in _IGNORED
                if is_shown and file.suffix.lower() not in SUFFIXES and file.is_file():
                    other.append(listing.relative(file))
    if loose:
        message = f"{_count(loose)} in no class, and passed over: {_names(loose)}."
        findings.append(Finding("no class", "warning", message, "Move them into the folder of a class.", tuple(loose)))
    if other:
        suffixes = ", ".join(sorted({Path(name).suffix.lower() or "no suffix" for name in other}))
        message = f"{_count(other, 'file')} passed over, not images by their suffix ({suffixes}): {_names(other)}."
        advice = "Convert photographs, such as .heic, to .jpg or .png; move other files away."
        findings.append(Finding("other files", "warning", message, advice, tuple(other)))
    return findings


def _counts(listing: Listing) -> list[Finding]:
    findings: list[Finding] = []
    for split, classes in listing.images.items():
        counts = {name: len(files) for name, files in classes.items() if files}
        if len(counts) < 2:
            continue
        least, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        numbers = f"{counts[most]:,} images of {most!r}, {counts[least]:,} of {least!r}"
        if counts[most] >= _IMBALANCE * counts[least]:
            advice = f"A network that always says {most!r} is right often. Add images of {least!r}; look at each class."
            findings.append(Finding("imbalance", "warning", f"{split}: {numbers}.", advice))
        elif counts[least] < _FEW and split in ("train", "all"):
            message = f"{split}: only {counts[least]:,} images of {least!r}."
            findings.append(Finding("few images", "note", message, "Start from trained weights: --init."))
    if not {"all", "test"} & {*listing.images}:
        advice = "Put a fifth of the images, taken at another time or place, into test: train never sees them."
        findings.append(Finding("no test split", "note", f"{listing.folder}: no split test.", advice))
    return findings


def _count(files: list[str], noun: str = "image") -> str:
    return f"{len(files):,} {noun}s are" if len(files) != 1 else f"1 {noun} is"


def _names(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _tally(modes: Counter[str]) -> str:
    return ", ".join(f"{number:,} {mode}" for mode, number in modes.most_common())
