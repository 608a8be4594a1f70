"""The entries of a manifest and their values, checked on construction."""

import json
import math
from collections.abc import Iterable, Mapping
from datetime import date, time
from itertools import pairwise
from math import isfinite
from statistics import fmean, stdev
from typing import Annotated, Any, Literal

import msgspec

from zoo import names
from zoo.spec import Preprocess
from zoo.spec.checked import is_trusted

Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
Classes = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Distribution = Annotated[str, msgspec.Meta(pattern=rf"^({names.DISTRIBUTION})?$(?!\n)")]
Version = Annotated[str, msgspec.Meta(pattern=rf"^({names.VERSION})?$(?!\n)")]
# Alone, $ would let a line feed pass, and \Z is not known to JSON Schema.
Text = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f]*$(?!\n)")]
Address = Annotated[str, msgspec.Meta(pattern=r"^https?://[^\x00-\x20\x7f]+$(?!\n)")]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?$(?!\n)")]
Sha256Prefix = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{0,64}$(?!\n)")]
Digest = Annotated[
    str,
    msgspec.Meta(pattern=r"^(sha512:[0-9a-f]{128}|sha384:[0-9a-f]{96}|sha1:[0-9a-f]{40}|md5:[0-9a-f]{32})?$(?!\n)"),
]
Commit = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{40})?$(?!\n)")]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base class of the tables of a manifest."""


class License(Entry, frozen=True):
    """Licences of one trained file: SPDX identifiers, or text if there is none.

    Args:
        code: Of the code that trained it.
        weights: Of the weights.
        data: Of the training data.
    """

    code: str = "unknown"
    weights: str = "unknown"
    data: str = "unknown"


NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
Positive = Annotated[int, msgspec.Meta(ge=1, lt=1 << 53)]


class Protocol(Entry, frozen=True):
    """Conditions of a score beside the network and the data set. A field that is not known is left out.

    Args:
        trained_on: Number of training images.
        epochs: Passes over them.
        runs: Number of trainings. The score is their mean, unless ``selection`` says otherwise.
        views: Views of each test image.
        selection: How the network or the result was selected, in words.
        other: What else to know before comparing, in words.
    """

    trained_on: Positive | None = None
    epochs: Annotated[float, msgspec.Meta(gt=0, lt=1 << 53)] | None = None
    runs: Positive | None = None
    views: Positive | None = None
    selection: Text = ""
    other: Text = ""

    def words(self) -> dict[str, str]:
        """Returns each field that is set, in words."""
        words = {
            "trained_on": _counted(self.trained_on, "training image"),
            "epochs": _counted(self.epochs, "epoch"),
            "runs": _counted(self.runs, "run"),
            "views": _counted(self.views, "view"),
            "selection": self.selection,
            "other": self.other,
        }
        return {field: text for field, text in words.items() if text}

    def beside(self, ours: "Protocol") -> str:
        """Returns where this protocol differs from ``ours``: "50,000 training images; ours 60,000 training images".

        What is not known of this one is not compared.
        """
        theirs, mine = self.words(), ours.words()
        fields = [field for field in theirs if theirs[field] != mine.get(field)]
        texts = [", ".join(words[field] for field in fields if field in words) for words in (theirs, mine)]
        return "; ours ".join(filter(None, texts))


def _counted(count: float | None, noun: str) -> str:
    """Returns "ten runs": in letters up to ten, "" for None."""
    if count is None:
        return ""
    is_short = count == int(count) and count < len(NUMBERS)
    number = NUMBERS[int(count)] if is_short else f"{int(count):,}" if count == int(count) else f"{count:g}"
    return f"{number} {noun}{'' if count == 1 else 's'}"


class Spread(Entry, frozen=True):
    """Scores of trainings that differ in their seed alone: of the same data, images and protocol as the one beside.

    Args:
        mean: Mean of their top-1, in per cent.
        deviation: Sample standard deviation of their top-1 (n - 1), in per cent.
        seeds: The seeds.
        top1: Top-1 of each training, in the order of the seeds.
    """

    mean: Percent
    deviation: Percent
    seeds: Annotated[tuple[Count, ...], msgspec.Meta(min_length=2)]
    top1: Annotated[tuple[Percent, ...], msgspec.Meta(min_length=2)]

    @classmethod
    def of(cls, top1: Mapping[int, float]) -> "Spread":
        """Returns the spread of top-1 by seed, in per cent."""
        values = [round(value, 4) for value in top1.values()]
        return cls(round(fmean(values), 4), round(stdev(values), 4), tuple(top1), tuple(values))

    @property
    def n(self) -> int:
        """The number of trainings."""
        return len(self.seeds)

    @property
    def words(self) -> str:
        """Mean, standard deviation and number of trainings: ``98.04 ± 0.09 (10)``."""
        return f"{self.mean:.2f} ± {self.deviation:.2f} ({self.n})"

    def __post_init__(self) -> None:
        if len(self.seeds) != len(self.top1) or len({*self.seeds}) != self.n:
            raise ValueError(f"spread: {len({*self.seeds})} different seeds, but {len(self.top1)} top1")
        mean, deviation = fmean(self.top1), stdev(self.top1)
        if abs(mean - self.mean) > 0.01 or abs(deviation - self.deviation) > 0.01:
            raise ValueError(
                f"spread: mean = {self.mean:g} and deviation = {self.deviation:g}, but those of top1 are "
                f"{mean:.4f} and {deviation:.4f}"
            )


class Score(Entry, frozen=True):
    """A result on one split of one data set.

    Args:
        n: Number of images.
        source: Who reported it.
        protocol: How it came about. By default, of ImageNet: all 1,281,167 training images, one view of the image's
            center.
        top1: Top-1 in per cent.
        top5: Top-5 in per cent.
        mean_class: Mean over the classes of their top-1, in per cent.
        loss: Mean cross-entropy.
        correct: Number of images that were classified correctly, if this project measured it.
        command: How this project measured it.
        fingerprint: The hash of the pixels and labels on which this project measured it.
        without: The images of the data set that were left out: their places in it as it is published, from 0.
        spread: Scores of several trainings, of which this network is one.
    """

    n: Count
    source: str
    protocol: Protocol | None = None
    top1: Percent | None = None
    top5: Percent | None = None
    mean_class: Percent | None = None
    loss: float | None = None
    correct: Count | None = None
    command: str = ""
    fingerprint: str = ""
    without: tuple[Count, ...] = ()
    spread: Spread | None = None

    @property
    def right(self) -> int:
        """The number of images that were classified correctly, or that ``top1`` implies."""
        return round((self.top1 or 0) * self.n / 100) if self.correct is None else self.correct

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The least and the largest top-1 on the whole data set, in per cent; None if no image was left out."""
        if not self.without or self.top1 is None:
            return None
        whole = self.n + len(self.without)
        return 100 * self.right / whole, 100 * (self.right + len(self.without)) / whole

    def __post_init__(self) -> None:
        if is_trusted():  # there are many
            return
        if any(first >= second for first, second in pairwise(self.without)):
            raise ValueError("without must ascend")
        if self.correct is not None and self.top1 is not None:
            share = 100 * self.correct / self.n if self.correct <= self.n else math.inf
            if abs(share - self.top1) > 0.01:
                raise ValueError(f"top1 = {self.top1:g}, but correct = {self.correct:,} of n = {self.n:,}")
        if self.spread is not None:
            least, most = min(self.spread.top1), max(self.spread.top1)
            if self.top1 is None or not least - 0.01 <= self.top1 <= most + 0.01:
                raise ValueError(f"top1 = {self.top1}, but those of spread are {least:g} to {most:g}")


class Tolerance(Entry, frozen=True):
    """The amount by which outputs may differ from the stated ones.

    Rounding errors of sums are proportional to their terms, so a small output has the same tolerance as large ones.

    Args:
        rtol: Allowed difference, relative to the largest output of its row.
        atol: Allowed difference, in addition.
        share: Fraction of the outputs that may differ by more.
    """

    rtol: Amount = 0.0
    atol: Amount = 0.0
    share: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0

    def __post_init__(self) -> None:
        if not (isfinite(self.rtol) and isfinite(self.atol)):
            raise ValueError("rtol and atol must be finite")


class ProbedImage(Entry, frozen=True):
    """Outputs for the photograph that ships with Zoo, prepared by ``preprocess``.

    Args:
        logits: The first logits.
        norm: The Euclidean norm of the features.
        name: Which photograph.
    """

    logits: tuple[float, ...]
    norm: float | None = None
    name: Literal["chelsea"] = "chelsea"

    def __post_init__(self) -> None:
        _require_finite(self.logits, self.norm)


class Probe(Entry, frozen=True):
    """Reproducible inputs, and the network's outputs for them.

    The first inputs are ``batch`` images of ``preprocess.input_size``: the bytes of SHAKE-256 over ``zoo-probe-<seed>``
    as uint8 pixels, B C H W, divided by 255 and normalised by mean and std.

    Args:
        logits: The first outputs for each of these images.
        norms: The Euclidean norm of the features (``forward_features``) of each.
        image: The same for a photograph.
        tolerance: Tolerances that replace those of ``zoo.verify.probe``, by dtype or ``device/dtype``; a number is an
            ``atol``.
        generator: How the images are generated.
        seed: Of the generator.
    """

    logits: tuple[tuple[float, ...], ...]
    norms: tuple[float, ...] = ()
    image: ProbedImage | None = None
    tolerance: Mapping[str, Amount | Tolerance] = {}
    generator: Literal["shake_256"] = "shake_256"
    seed: int = 0

    @property
    def batch(self) -> int:
        return len(self.logits)

    def __post_init__(self) -> None:
        numbers = [value for value in self.tolerance.values() if isinstance(value, float | int)]
        _require_finite([*self.norms, *numbers, *(value for row in self.logits for value in row)])
        if len(self.norms) not in (0, self.batch):
            raise ValueError(f"{len(self.norms)} norms for {self.batch} images")


class History(Entry, frozen=True):
    """The course of a training, after some of its epochs.

    Args:
        epoch: The epochs.
        loss: The mean training loss of each.
        train_top1: Top-1 on the training images, as they were augmented, in per cent.
        val_top1: Top-1 on images that were held out, in per cent; empty if there were none.
    """

    epoch: tuple[Count, ...]
    loss: tuple[float, ...]
    train_top1: tuple[Percent, ...] = ()
    val_top1: tuple[Percent, ...] = ()

    def __post_init__(self) -> None:
        if not all(map(isfinite, self.loss)):
            raise ValueError("history: loss must be finite")
        lengths = [len(self.loss), *(len(part) for part in (self.train_top1, self.val_top1) if part)]
        if set(lengths) != {len(self.epoch)}:
            raise ValueError(f"history: {len(self.epoch)} epochs, but {', '.join(map(str, lengths))} values")


class Release(Entry, frozen=True):
    """Which of a publisher's manifests a signed one is: the table ``[release]``.

    Args:
        number: Higher than that of every earlier one of this name.
        expires: The last day on which the manifest is accepted.
        name: Which manifest, if the publisher signs several.
    """

    number: Annotated[int, msgspec.Meta(ge=1, lt=1 << 53)]
    expires: date | None = None
    name: Text = ""


class Weights(Entry, frozen=True):
    """One trained file of one architecture: its source, its bytes, its owner, its scores.

    Args:
        file: Name of the file.
        arch: The architecture: the first part of the table's name, not a key.
        tag: The tag: the second part of the table's name, not a key.
        repo: Folder of the file within the hub.
        hub: The source to use if no mirror has the file: ``hf`` (the Hugging Face Hub), ``embedded:<package>`` (inside
            an installed package), ``pypi:<name>==<version>`` (inside a wheel of a package index), a directory or any
            fsspec address. ``.`` and ``./FOLDER`` are relative to the manifest.
        revision: Commit of the Hugging Face Hub.
        sha256: The file's hash.
        sha256_prefix: Its first digits, which are part of the names of torchvision's files.
        digest: Another hash that the publisher states, such as ``sha512:<hex>``; it is checked as well.
        size: Bytes; 0 if unknown.
        pinned: ``false`` marks an entry without a sha256.
        default: ``true`` makes these weights the model's default: those that its name alone means. Without it, they are
            the first entry that needs no conversion. An entry of a model may have it, no two.
        origin: Who trained the weights, and how.
        papers: Addresses of papers on the training of these weights, in addition to the model's own paper.
        license: Licences of code, weights and training data.
        classes: The data set that defines the classes.
        class_names: Names of the classes, if the file does not have them and ``classes`` is not a data set that Zoo
            knows.
        num_classes: Number of classes; None if unknown, 0 if the file has no head and the network computes features.
        params: Parameters, if ``args``, classes or input make them differ from the model's.
        macs: Multiply-adds per image, likewise.
        epochs: Length of training.
        preprocess: How images are prepared, if not as the model declares.
        args: Arguments of the build function that differ from the model's.
        key_map: The family's key map for a file of another format or with other keys; without it, all are tried.
        distribution: What to install for the model.
        distribution_version: Its version when these weights were made.
        scores: Results by ``data/split``.
        history: The curves of the training.
        probe: Outputs to compare with.
    """

    file: Text
    arch: str = ""
    tag: str = ""
    repo: Text = ""
    hub: Text = "hf"
    revision: Commit = ""
    sha256: Sha256 = ""
    sha256_prefix: Sha256Prefix = ""
    digest: Digest = ""
    size: Count = 0
    pinned: bool = True
    default: bool = False
    origin: str = ""
    papers: tuple[Address, ...] = ()
    license: License = License()
    classes: str = ""
    class_names: tuple[str, ...] = ()
    num_classes: Classes | None = None
    params: Count | None = None
    macs: Count | None = None
    epochs: Count | None = None
    preprocess: Preprocess | None = None
    args: Mapping[str, Any] = {}
    key_map: Text = ""
    distribution: Distribution = ""
    distribution_version: Version = ""
    scores: Mapping[str, Score] = {}
    history: History | None = None
    probe: Probe | None = None

    @property
    def name(self) -> str:
        return names.of_weights(self.arch, self.tag)

    @property
    def path(self) -> str:
        """The path of the file within a hub."""
        return f"{self.repo}/{self.file}" if self.repo else self.file

    def protocol_of(self, score: Score) -> Protocol:
        """Returns the protocol of one of these weights' scores, with their epochs and all trainings of its spread."""
        protocol = score.protocol or Protocol()
        if score.spread is not None:
            protocol = msgspec.structs.replace(protocol, runs=score.spread.n)
        return msgspec.structs.replace(protocol, epochs=self.epochs) if protocol.epochs is None else protocol

    @property
    def is_relative(self) -> bool:
        """Whether its hub is relative to the manifest."""
        return self.hub == "." or self.hub.startswith("./")

    @property
    def determines_bytes(self) -> bool:
        """Whether only one file can be the right one: no other with the same sha256, sha384 or sha512 can be made."""
        return bool(self.sha256) or self.digest.startswith(("sha384:", "sha512:"))

    @property
    def needs_conversion(self) -> bool:
        """Whether the file becomes safetensors with the keys of its family before it is loaded."""
        return bool(self.key_map) or not self.file.endswith(".safetensors")

    def __post_init__(self) -> None:
        if is_trusted():  # there are many
            return
        if self.pinned and not self.sha256:
            raise ValueError("pinned without sha256: set pinned = false if it is unknown")
        if not self.pinned and self.sha256:
            raise ValueError("sha256 is set, so remove pinned = false")
        if {"", ".", ".."} & set(self.path.split("/")) or "\\" in self.path:
            raise ValueError(f"{self.path!r} must stay inside the hub: no empty, . or .. parts")
        if not self.hub:
            raise ValueError("hub must not be empty: remove it to use the Hugging Face Hub")
        if self.args:
            json.dumps(msgspec.to_builtins(self.args, builtin_types=(date, time)), allow_nan=False)


def _require_finite(values: Iterable[float], norm: float | None = None) -> None:
    if not all(map(isfinite, [*values, norm or 0.0])):
        raise ValueError("logits, norms and tolerance must be finite")
