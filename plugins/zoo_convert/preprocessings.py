"""Scores weights with each of the usual ways to prepare images, to find the one that they were trained for."""

from collections.abc import Iterator
from typing import Any

import msgspec

from zoo import data as datasets
from zoo.data.image_set import stratified_split
from zoo.evaluation import hook
from zoo.evaluation.score import check_classes
from zoo.loading import ModelInfo
from zoo.loading.create import as_network, info_of, require_classes
from zoo.spec import Preprocess
from zoo.spec.preprocess import CIFAR10, CIFAR10_IMAGE_STD, IMAGENET, MNIST

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
    """A way to prepare images, in words, and its score: ``top1`` and Wilson's 95% ``interval`` in per cent."""

    words: str
    preprocess: Preprocess
    correct: int
    n: int
    top1: float
    interval: tuple[float, float]


class Audit(msgspec.Struct, frozen=True):
    """The usual ways to prepare images, the manifest's own first.

    ``claimed`` is a top-1 in per cent, of ``claimed_n`` images, if any is.
    """

    weights: str
    data: str
    claimed: float | None
    ways: list[Way]

    @property
    def agrees(self) -> bool:
        """Whether the claim lies within the interval of the manifest's own preprocessing, or there is none."""
        low, high = self.ways[0].interval
        return self.claimed is None or low <= self.claimed <= high


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
    images = datasets.load(data, split)
    check_classes(model, images)
    where = f"{images.name}/{images.split}"
    if claim is None and info.weights is not None and where in info.weights.scores:
        claim = info.weights.scores[where].top1
    if limit < len(images):
        images = images.subset(stratified_split(images.labels, limit, "audit")[1], images.split)
    usual: dict[Preprocess, str] = {}
    for words, preprocess in _usual(info):
        usual.setdefault(preprocess, words)
    ways = []
    for preprocess, words in usual.items():
        report = hook.evaluate(info.model, model, images, preprocess=preprocess, **options)
        ways.append(Way(words, preprocess, report.correct, report.n, report.top1, report.interval))
    return Audit(info.name, where, claim, ways)


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
