"""Scores weights with each of the usual ways to prepare images, to find the one that they were trained for."""

from collections.abc import Iterator
from typing import Any

import msgspec

from zoo import data as datasets
from zoo.data.image_set import stratified_split
from zoo.evaluation import Report, claims, hook
from zoo.evaluation.claims import Comparison
from zoo.evaluation.outputs import Outputs
from zoo.evaluation.score import check_classes
from zoo.loading import ModelInfo
from zoo.loading.create import as_network, info_of, require_classes
from zoo.manifest import Score
from zoo.spec import Preprocess
from zoo.spec.preprocess import CIFAR10, CIFAR10_IMAGE_STD, IMAGENET, MNIST
from zoo.statistics import holm, mcnemar

_SCALES = {
    "ImageNet's": (IMAGENET.mean, IMAGENET.std),
    "0.5": ((0.5,), (0.5,)),
    "none, values in [0, 1]": ((0.0,), (1.0,)),
    "none, values in [0, 255]": ((0.0,), (1 / 255,)),
    "CIFAR-10's": (CIFAR10.mean, CIFAR10.std),
    "CIFAR-10's, deviation within images": (CIFAR10_IMAGE_STD["mean"], CIFAR10_IMAGE_STD["std"]),
    "MNIST's": (MNIST.mean, MNIST.std),
}
"""Means and deviations, one number for any number of channels."""


class Way(msgspec.Struct, frozen=True):
    """A way to prepare images, in words, and its score: ``top1`` and Wilson's 95% ``interval`` in per cent.

    ``p`` is that of McNemar's exact test against the manifest's own way, corrected for the number of ways by Holm's
    method; None of that way itself.
    """

    words: str
    preprocess: Preprocess
    correct: int
    n: int
    top1: float
    interval: tuple[float, float]
    p: float | None = None


class Audit(msgspec.Struct, frozen=True):
    """The usual ways to prepare images, the manifest's own first; ``claimed`` is a top-1 in per cent, if any is.

    ``comparison`` is that of the claim with the score of the first.
    """

    weights: str
    data: str
    claimed: float | None
    ways: list[Way]
    comparison: Comparison | None = None

    @property
    def agrees(self) -> bool:
        """Whether the claim agrees with the manifest's own preprocessing, or there is none."""
        return self.comparison is None or self.comparison.agrees


def audit(
    name: str,
    data: str,
    split: str = "test",
    *,
    claim: float | None = None,
    limit: int = 1000,
    **options: Any,
) -> Audit:
    """Returns the scores of ``name`` with each usual preprocessing, on the same ``limit`` images of all classes.

    ``claim`` is by default the manifest's top-1 on ``data``; ``options`` go to the model's evaluate hook. Raises
    :class:`DataError` if the images cannot be loaded or have classes that the weights do not know.
    """
    model = as_network(name)
    info = info_of(model)
    require_classes(model)
    images = check_classes(model, datasets.load(data, split))
    where = f"{images.name}/{images.split}"
    scores = info.weights.scores if info.weights is not None else {}
    claimed = scores.get(where) if claim is None else Score(n=0, source="--claim", top1=claim)
    if limit < len(images):
        images = images.subset(stratified_split(images.labels, limit, "audit")[1], images.split)
    usual: dict[Preprocess, str] = {}
    for words, preprocess in _usual(info):
        usual.setdefault(preprocess, words)
    reports: list[Report] = []
    answers: list[Outputs] = []
    for preprocess in usual:
        reports.append(hook.evaluate(info.model, model, images, preprocess=preprocess, take=answers.append, **options))
    is_right = [answer.ranked[:, 0] == images.labels for answer in answers]
    values = [mcnemar(int((is_right[0] & ~own).sum()), int((~is_right[0] & own).sum())) for own in is_right[1:]]
    ways = [
        Way(words, preprocess, report.correct, report.n, report.top1, report.interval, p)
        for (preprocess, words), report, p in zip(usual.items(), reports, [None, *holm(values)], strict=True)
    ]
    comparison = None
    if claimed is not None and claimed.top1 is not None:
        comparison = claims.check(reports[0], claimed, allow_other_images=True)
    return Audit(info.name, where, claimed.top1 if claimed is not None else None, ways, comparison)


def _usual(info: ModelInfo) -> Iterator[tuple[str, Preprocess]]:
    """Yields the manifest's own preprocessing and changes of one field of it, in words."""
    declared = info.preprocess
    channels = declared.input_size[0]
    yield "as in the manifest", declared
    if info.model.preprocess.input_size[0] == channels:
        yield "as the model declares", msgspec.structs.replace(info.model.preprocess, input_size=declared.input_size)
    for crop in (0.875, 0.9, 0.95, 1.0):
        yield f"crop {crop:g}", msgspec.structs.replace(declared, crop_pct=crop)
    for kind in ("bilinear", "bicubic"):
        yield f"interpolation {kind}", msgspec.structs.replace(declared, interpolation=kind)
    for kind, scale in _SCALES.items():
        if len(scale[0]) in (1, channels):
            mean, std = (values if len(values) == channels else values * channels for values in scale)
            yield f"mean and deviation {kind}", msgspec.structs.replace(declared, mean=mean, std=std)


__all__ = ["Audit", "Way", "audit"]
