"""Findings that need the pixels: damage, duplicates within and across splits, doubtful labels."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch

import zoo
from zoo.data import ImageSet
from zoo.data.folder_check import Finding, Listing, check_headers, check_structure, list_images, unreadable
from zoo.data.image_file import read_image
from zoo.errors import DataError, MissingExtraError

log = logging.getLogger("zoo")

Progress = Callable[[int, int], None] | None

NETWORK = "resnet20.c10"
"""A small network that is always at hand; one of ImageNet sees more."""

DOUBT = 0.1
"""A label is doubtful if the probe gives it less, and another class more than any."""

DISTANCE = 4
"""Two images are near duplicates if at most so many of the 64 bits of their perceptual hashes differ."""

_FOLDS = 5


class Place(NamedTuple):
    """An image of the folder, by the name of its file there."""

    file: str
    split: str
    label: str


class Doubt(msgspec.Struct, frozen=True):
    """An image whose label the probe doubts: the probability of its class, and the likeliest class with its own."""

    file: str
    label: str
    probability: float
    likelier: str
    likelier_probability: float


class Report(msgspec.Struct, frozen=True):
    """All findings about the data set in ``folder``, and the doubtful labels, the most doubtful first."""

    folder: str
    images: int
    classes: tuple[str, ...]
    splits: dict[str, dict[str, int]]
    findings: tuple[Finding, ...]
    doubtful: tuple[Doubt, ...] = ()
    network: str = ""


def check(
    folder: Path,
    *,
    network: str | None = NETWORK,
    top: int = 50,
    doubt: float = DOUBT,
    distance: int = DISTANCE,
    device: str | None = None,
    progress: Progress = None,
) -> Report:
    """Checks a folder of images, and changes nothing.

    Args:
        folder: The data set, as ``zoo train --data`` takes it.
        network: Weights whose features show doubtful labels; None to leave these out.
        top: The most doubtful labels to report.
        doubt: The probability below which a label is doubtful.
        distance: The bits that perceptual hashes of near duplicates may differ in.
        device: Where to compute features.
        progress: Called with (images done, images in all), first for the hashes, then for the features.
    """
    findings = check_structure(folder)
    if any(finding.kind == "level" for finding in findings):
        return Report(str(folder), 0, (), {}, tuple(findings))
    listing = list_images(folder)
    in_headers = check_headers(listing)
    damaged = {name: "" for finding in in_headers if finding.kind == "unreadable" for name in finding.files}
    places = [
        Place(listing.relative(file), split, label)
        for split, classes in listing.images.items()
        for label, files in classes.items()
        for file in files
    ]
    truncated, exact, near = _hash(listing, [place for place in places if place.file not in damaged], progress)
    findings += [*in_headers, *([unreadable(truncated)] if truncated else [])]
    readable = [place for place in places if place.file not in damaged and place.file not in truncated]
    findings += _duplicates("exact duplicates", _same(exact), readable)
    if near:
        findings += _duplicates("near duplicates", _near(near, exact, distance), readable)
    else:
        findings.append(_missing_library("Near duplicates", "imagehash", "zoo-vision[check]"))
    doubtful: list[Doubt] = []
    if network is not None:
        try:
            doubtful = find_doubtful(listing, readable, network, doubt, device, progress)
        except MissingExtraError:
            findings.append(_missing_library("Doubtful labels", "scikit-learn", "zoo-vision[data]"))
        except DataError as error:
            findings.append(
                Finding("doubtful labels", "note", f"Labels were not examined: {error.message}", error.hint)
            )
    if doubtful:
        message = f"{len(doubtful):,} labels are doubtful to a linear probe on features of {network}."
        advice = "Look at each image, the first ones above all: move those that are in the wrong folder."
        shown = tuple(row.file for row in doubtful[:top])
        findings.append(Finding("doubtful labels", "warning", message, advice, shown))
    counts = {
        split: {label: len(files) for label, files in classes.items()} for split, classes in listing.images.items()
    }
    return Report(
        str(folder), len(places), tuple(listing.classes), counts, tuple(findings), tuple(doubtful[:top]), network or ""
    )


def _missing_library(what: str, library: str, extra: str) -> Finding:
    return Finding(
        "not looked for", "note", f"{what} were not looked for: this needs {library}.", f"pip install '{extra}'"
    )


def _hash(
    listing: Listing, places: list[Place], progress: Progress
) -> tuple[dict[str, str], dict[str, str], dict[str, int]]:
    """Decodes every image; returns those that cannot be, the sha256 of the pixels and the perceptual hashes of others.

    There are no perceptual hashes without the library imagehash.
    """
    damaged: dict[str, str] = {}
    exact: dict[str, str] = {}
    near: dict[str, int] = {}
    has_library = find_spec("imagehash") is not None
    for number, place in enumerate(places):
        try:
            image = read_image(listing.folder / place.file, place.file, 3)
        except DataError as error:
            damaged[place.file] = error.message
        else:
            exact[place.file] = sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
            if has_library:
                import imagehash

                near[place.file] = int(str(imagehash.phash(image)), 16)
        if progress is not None:
            progress(number + 1, len(places))
    return damaged, exact, near


def _same(hashes: dict[str, str]) -> list[list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for file, value in hashes.items():
        groups[value].append(file)
    return [files for files in groups.values() if len(files) > 1]


def _near(hashes: dict[str, int], exact: dict[str, str], distance: int) -> list[list[str]]:
    """Returns groups of images that are linked by hashes at most ``distance`` apart, and not all equal."""
    files = [*hashes]
    values = np.array([hashes[file] for file in files], dtype=np.uint64)
    parent = [*range(len(files))]

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for index in range(len(files) - 1):
        apart = np.bitwise_count(values[index + 1 :] ^ values[index])
        for other in (index + 1 + np.flatnonzero(apart <= distance)).tolist():
            parent[root(other)] = root(index)
    groups: dict[int, list[str]] = defaultdict(list)
    for index, file in enumerate(files):
        groups[root(index)].append(file)
    return [group for group in groups.values() if len({exact[file] for file in group}) > 1]


def _duplicates(kind: str, groups: list[list[str]], places: Iterable[Place]) -> list[Finding]:
    """Returns a finding for groups across splits, one for those of several classes, and one for the others."""
    of = {place.file: place for place in places}
    sorted_out: dict[str, list[tuple[str, ...]]] = {"across": [], "labels": [], "within": []}
    for group in groups:
        if len({of[file].split for file in group}) > 1:
            sorted_out["across"].append(tuple(group))
        elif len({of[file].label for file in group}) > 1:
            sorted_out["labels"].append(tuple(group))
        else:
            sorted_out["within"].append(tuple(group))
    texts = {
        "across": ("across splits", "warning", "The score is too high by them: keep those of one split."),
        "labels": ("with different labels", "warning", "At most one label is right: move the others away."),
        "within": ("within a split", "note", "Keep one of each group, unless it is meant to count more."),
    }
    findings = []
    for key, (where, level, advice) in texts.items():
        if chosen := sorted_out[key]:
            number = f"{len(chosen):,} group{'s' if len(chosen) > 1 else ''}"
            files = tuple(file for group in chosen for file in group)
            message = f"{number} of {kind} {where}: {' = '.join(chosen[0][:3])}{' ...' if len(files) > 3 else ''}."
            findings.append(Finding(f"{kind} {where}", level, message, advice, files, tuple(chosen)))  # type: ignore[arg-type]  # a literal
    return findings


def find_doubtful(
    listing: Listing, places: list[Place], network: str, doubt: float, device: str | None, progress: Progress
) -> list[Doubt]:
    """Returns the images whose class a linear probe finds improbable, the most improbable first.

    The probe is a logistic regression on features of ``network``, cross-validated: it has not seen the image that it
    judges. Raises :class:`DataError` if there are too few images.
    """
    zoo.classifiers.require_sklearn("Looking for doubtful labels")
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    classes = tuple(sorted({place.label for place in places}))
    labels = torch.tensor([classes.index(place.label) for place in places])
    smallest = int(torch.bincount(labels).min()) if len(places) else 0
    if len(classes) < 2 or smallest < 2:
        raise DataError("a class has fewer than two readable images.", hint="Add images, or use --no-labels.")
    files = [listing.folder / place.file for place in places]
    read = lambda index: read_image(files[index], places[index].file, 3)  # noqa: E731  # said twice
    images = ImageSet(listing.folder.name, "all", classes, labels, read=read, channels=3)
    features = zoo.features(network, images, device=device, progress=progress).features
    probe = zoo.classifiers.configure("logistic", {"C": 0.1}).build()
    folds = StratifiedKFold(min(_FOLDS, smallest), shuffle=True, random_state=0)
    shares = cross_val_predict(probe, features.numpy(), labels.numpy(), cv=folds, method="predict_proba")
    own = shares[np.arange(len(labels)), labels.numpy()]
    likeliest = shares.argmax(1)
    order = [int(i) for i in np.argsort(own, kind="stable") if own[i] < doubt and likeliest[i] != labels[i]]
    return [
        Doubt(places[i].file, places[i].label, float(own[i]), classes[likeliest[i]], float(shares[i].max()))
        for i in order
    ]
