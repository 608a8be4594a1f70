"""Whether a claimed score holds, and if not, whether another way of preparing images explains it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from zoo import data as datasets
from zoo.creation import as_network, info_of, require_classes
from zoo.data.image_set import ImageSet
from zoo.data.stratify import stratified_split
from zoo.errors import WeightsError
from zoo.evaluation import claims, hook
from zoo.evaluation.score import Report, check_classes
from zoo.loading import ModelInfo, safetensors_file
from zoo.manifest import Score
from zoo.spec import Preprocess
from zoo.spec.preprocess import CIFAR10, CIFAR10_IMAGE_STD, IMAGENET, MNIST

_CROPS = (0.875, 0.9, 0.95, 1.0)
_INTERPOLATIONS = ("bilinear", "bicubic")
_SCALES = {
    "ImageNet's": (IMAGENET.mean, IMAGENET.std),
    "0.5": ((0.5,), (0.5,)),
    "none, values in [0, 1]": ((0.0,), (1.0,)),
    "none, values in [0, 255]": ((0.0,), (1 / 255,)),
    "CIFAR-10's": (CIFAR10.mean, CIFAR10.std),
    "CIFAR-10's, deviation within images": (CIFAR10_IMAGE_STD["mean"], CIFAR10_IMAGE_STD["std"]),
    "MNIST's": (MNIST.mean, MNIST.std),
}
"""Means and deviations that are usual, one number for any number of channels."""

_SALT = "audit"
_NEAREST = 3
"""Variants that are changed further, and those of each round that are scored on all images."""
_ROUNDS = 3
"""Fields that are changed at most: crop, interpolation, mean and deviation."""


class Variant(msgspec.Struct, frozen=True):
    """A way to prepare images: ``changes`` of the manifest's preprocessing, in words, and what it scores.

    ``correct`` of ``n`` images. ``estimate`` is the top-1 on all images that this implies: the manifest's own on all,
    plus the difference of the two on these. For all images, it is ``top1``.
    """

    changes: str
    preprocess: Preprocess
    n: int
    correct: int
    top1: float
    interval: tuple[float, float]
    estimate: float


class Audit(msgspec.Struct, frozen=True):
    """A claim beside its measurement.

    ``agrees`` is whether the claimed top-1 lies within the measured 95% interval. If not, ``variants`` are the ways
    that were tried on some of the images, the nearest to the claim first, and ``explanation`` is the one that
    explains the claim on all of them, if any.
    """

    weights: str
    claimed: float
    source: str
    measured: Report
    agrees: bool
    message: str
    variants: list[Variant]
    explanation: Variant | None


def audit(
    name: str,
    data: str,
    split: str = "test",
    *,
    claim: float | None = None,
    limit: int = 1000,
    on_variant: Callable[[str], object] | None = None,
    **options: Any,
) -> Audit:
    """Compares a claimed score with a measurement; if they disagree, tries other ways to prepare images.

    The variants are what the weights file and the model say, and changes of one field (crop, interpolation, mean and
    deviation). As long as they come nearer to the claim, another field of the three nearest is changed. They are scored
    on ``limit`` images, the same share of each class. The three nearest with one change, with two and with three are
    then scored on all images, in this order, until one explains the claim: one that fits a sample by chance does not.

    Args:
        name: Weights, a model for its default weights, or ``hf-hub:OWNER/NAME``.
        data: A data set's name or path.
        split: The split.
        claim: The claimed top-1 in per cent. By default the manifest's for this data set and split.
        limit: The number of images that variants are tried on.
        on_variant: Called with each variant that is about to be tried.
        options: Options of the model's evaluate hook, such as ``batch_size`` and ``device``.

    Returns:
        The audit.

    Raises:
        WeightsError: The manifest claims no score on this data and ``claim`` is None.
        DataError: The images cannot be loaded, or have classes that the weights do not know.
    """
    model = as_network(name)
    info = info_of(model)
    require_classes(model)
    images = datasets.load(data, split)
    check_classes(model, images)
    stated = _claim(info, images, claim)

    def score(part: ImageSet, preprocess: Preprocess) -> Report:
        return hook.evaluate(info.model, model, part, preprocess=preprocess, **options)

    measured = score(images, info.preprocess)
    comparison = claims.check(measured, stated, allow_other_images=True)
    assert stated.top1 is not None
    if comparison.agrees:
        return Audit(info.name, stated.top1, stated.source, measured, True, comparison.message, [], None)
    sample = images
    if limit < len(images):
        _, chosen = stratified_split(images.labels, limit, _SALT)
        sample = images.subset(chosen, images.split)
    own = measured if sample is images else score(sample, info.preprocess)
    search = _Search(info, stated.top1, measured, own, lambda one: score(sample, one), on_variant)
    tried = search.run()
    explanation = None
    for candidates in search.candidates():
        whole = [search.variant(one.changes, one.preprocess, score(images, one.preprocess)) for one in candidates]
        explaining = [one for one in whole if one.interval[0] <= stated.top1 <= one.interval[1]]
        if explanation := min(explaining, key=search.distance, default=None):
            break
    return Audit(info.name, stated.top1, stated.source, measured, False, comparison.message, tried, explanation)


class _Search:
    """Tries ways to prepare images that bring the score nearer to the claim."""

    def __init__(
        self,
        info: ModelInfo,
        claimed: float,
        measured: Report,
        own: Report,
        score: Callable[[Preprocess], Report],
        on_variant: Callable[[str], object] | None,
    ) -> None:
        """``measured`` and ``own`` are of the manifest's preprocessing, on all images and on those of ``score``."""
        self._info, self._claimed, self._score, self._on_variant = info, claimed, score, on_variant
        self._measured, self._own = measured, own
        self._first = self.variant("as in the manifest", info.preprocess, own)
        self._rounds: list[list[Variant]] = []

    def run(self) -> list[Variant]:
        """All variants, the nearest to the claim first; the manifest's own first among equals."""
        starts = [self._first]
        for _ in range(_ROUNDS):
            found = [self._try(*way) for way in self._ways(starts).items()]
            self._rounds.append(found)
            if not found or min(map(self.distance, found)) >= min(map(self.distance, starts)):
                break
            starts = sorted(found, key=self.distance)[:_NEAREST]
        return sorted(self._tried, key=self.distance)

    def candidates(self) -> Iterator[list[Variant]]:
        """The nearest with one change, with two, ..., as far as they are nearer than the manifest's own."""
        for found in self._rounds:
            nearest = sorted(found, key=self.distance)[:_NEAREST]
            yield [one for one in nearest if self.distance(one) < self.distance(self._first)]

    @property
    def _tried(self) -> list[Variant]:
        return [self._first, *(one for found in self._rounds for one in found)]

    def variant(self, changes: str, preprocess: Preprocess, report: Report) -> Variant:
        is_whole = report.n == self._measured.n
        estimate = report.top1 if is_whole else self._measured.top1 + report.top1 - self._own.top1
        return Variant(changes, preprocess, report.n, report.correct, report.top1, report.interval, estimate)

    def distance(self, variant: Variant) -> float:
        return abs(variant.estimate - self._claimed)

    def _ways(self, starts: list[Variant]) -> dict[Preprocess, str]:
        """Changes of ``starts`` that were not tried yet, in words."""
        found = {
            preprocess: words if start is self._first else f"{start.changes}, {words}"
            for start in starts
            for words, preprocess in _changes(self._info, start.preprocess).items()
        }
        tried = {one.preprocess for one in self._tried}
        return {preprocess: words for preprocess, words in found.items() if preprocess not in tried}

    def _try(self, preprocess: Preprocess, changes: str) -> Variant:
        if self._on_variant is not None:
            self._on_variant(changes)
        return self.variant(changes, preprocess, self._score(preprocess))


def _claim(info: ModelInfo, images: ImageSet, claim: float | None) -> Score:
    """What is claimed: given, or the manifest's on these images, or its only score."""
    if claim is not None:
        return Score(n=len(images), source="given", top1=claim)
    scores: Mapping[str, Score] = info.weights.scores if info.weights is not None else {}
    where = f"{images.name}/{images.split}"
    found = scores.get(where)
    if found is None or found.top1 is None:
        hint = f"It claims scores on {', '.join(scores)}. " if scores else ""
        raise WeightsError(
            f"The manifest claims no top-1 of {info.name} on {where}.", hint=f"{hint}--claim PERCENT states one."
        )
    return found


def _changes(info: ModelInfo, start: Preprocess) -> dict[str, Preprocess]:
    """Ways to prepare images, in words, that change one field of ``start`` which is still that of ``info``."""
    own = info.preprocess
    channels = own.input_size[0]
    usual: dict[str, dict[str, Any]] = {
        "as the weights file says": _stated(info),
        "as the model declares": _fields(info.model.preprocess, own),
        **{f"crop {crop:g}": {"crop_pct": crop} for crop in _CROPS},
        **{f"interpolation {name}": {"interpolation": name} for name in _INTERPOLATIONS},
    }
    for name, (mean, std) in _SCALES.items():
        if len(mean) in (1, channels):
            usual[f"mean and deviation {name}"] = {"mean": _spread(mean, channels), "std": _spread(std, channels)}
    return {
        words: msgspec.structs.replace(start, **values)
        for words, values in usual.items()
        if all(getattr(start, name) == getattr(own, name) for name in values)
    }


def _stated(info: ModelInfo) -> dict[str, Any]:
    """What the metadata of the weights file says about preprocessing; {} if nothing."""
    about = safetensors_file.metadata(info.file).get("preprocess") if info.file is not None else None
    try:
        return _fields(msgspec.convert(about, Preprocess), info.preprocess) if about else {}
    except msgspec.ValidationError:
        return {}


def _fields(other: Preprocess, own: Preprocess) -> dict[str, Any]:
    """What ``other`` says for a network that takes an input of the size in ``own``; {} for another number of channels.

    A network computes its own whitening.
    """
    if other.input_size[0] != own.input_size[0]:
        return {}
    names = set(own.__struct_fields__) - {"input_size", "whitening"}
    return {name: getattr(other, name) for name in names}


def _spread(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return values if len(values) == channels else values * channels
