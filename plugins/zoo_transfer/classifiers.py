"""Scores of other classifiers on a network's features: SVMs, nearest neighbours, trees.

The classifiers themselves are those of :mod:`zoo.training.classifiers`, which train hooks use as well.
"""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from zoo.data.image_set import stratified_split
from zoo.errors import DataError, RecipeError
from zoo.evaluation import versions
from zoo.statistics import wilson
from zoo.training.classifiers import (
    CLASSIFIERS,
    Classifier,
    LinearSvm,
    Logistic,
    Neighbours,
    RbfSvm,
    Tree,
    configure,
    fit,
    require_sklearn,
)
from zoo_transfer import head
from zoo_transfer.extraction import Features

__all__ = [
    "CLASSIFIERS",
    "Classifier",
    "LinearSvm",
    "Logistic",
    "Neighbours",
    "Outcome",
    "RbfSvm",
    "Tree",
    "classify",
    "configure",
    "fit",
    "require_sklearn",
]

log = logging.getLogger("zoo")


class Outcome(msgspec.Struct, frozen=True):
    """The score of a classifier.

    ``top1`` and its Wilson ``interval`` (95%) are in per cent. ``train`` and ``test`` name data set and split;
    ``seconds`` is the time of fitting and predicting.
    """

    classifier: str
    settings: dict[str, Any]
    model: str
    weights: str
    layer: str
    dimensions: int
    train: str
    n_train: int
    test: str
    fingerprint: str
    n: int
    correct: int
    top1: float
    interval: tuple[float, float]
    seconds: float
    versions: dict[str, str]


def classify(
    train: Features,
    test: Features | None = None,
    classifier: str = "linear_svm",
    settings: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
) -> Outcome:
    """Fits a classifier to the features ``train`` and scores it on ``test``.

    Without ``test``, a stratified fifth of the training images is held out and scored, to choose settings. With
    ``output``, the network with this classifier as its head is written to this folder, which is then a name of it.
    Raises :class:`DataError` if the two are from different networks, :class:`SpecError` if a classifier that is not
    linear is to be a head.
    """
    if output is not None:
        head.require_linear(classifier)
    chosen = configure(classifier, settings)
    if test is None:
        train, test = _hold_out(train)
    _check_fit(train, test)
    started = time.perf_counter()
    estimator = fit(classifier, chosen, train.features, train.labels)
    try:
        predicted = estimator.predict(test.features.numpy())
    except ValueError as error:
        raise RecipeError(f"{classifier} cannot be fitted to {len(train)} images: {error}") from None
    seconds = time.perf_counter() - started
    if output is not None:
        network = head.with_head(train, estimator)
        head.write(network, Path(output), train, classifier, msgspec.to_builtins(chosen))
    correct = int((predicted == test.labels.numpy()).sum())
    low, high = wilson(correct, len(test))
    return Outcome(
        classifier=classifier,
        settings=msgspec.to_builtins(chosen),
        model=train.origin.model,
        weights=train.origin.weights,
        layer=train.origin.layer,
        dimensions=train.features.shape[1],
        train=f"{train.origin.data}/{train.origin.split}",
        n_train=len(train),
        test=f"{test.origin.data}/{test.origin.split}",
        fingerprint=test.origin.fingerprint,
        n=len(test),
        correct=correct,
        top1=100 * correct / len(test),
        interval=(100 * low, 100 * high),
        seconds=seconds,
        versions=versions() | {"scikit-learn": _version()},
    )


def _check_fit(train: Features, test: Features) -> None:
    def identity(part: Features) -> tuple[Any, ...]:
        return part.origin.network, part.origin.layer, part.origin.classes, part.features.shape[1]

    if identity(train) != identity(test):
        raise DataError(
            f"Training and test features do not match:\n  training  {_describe(train)}\n  test      {_describe(test)}",
            hint="Use one NAME, --weights and --layer for both: zoo features NAME --data DATA --split SPLIT -o NEW.",
        )
    if train.origin.fingerprint == test.origin.fingerprint and train.origin.split == test.origin.split:
        log.warning("The test images are the training images, so the score does not generalise to other images.")


def _describe(part: Features) -> str:
    origin = part.origin
    layer = f"layer {origin.layer}" if origin.layer else "before the head"
    return (
        f"{origin.weights or origin.model} ({origin.network[:19]}) {layer}, {part.features.shape[1]} features, "
        f"{len(origin.classes)} classes of {origin.data}"
    )


def _hold_out(features: Features) -> tuple[Features, Features]:
    rest, chosen = stratified_split(features.labels, len(features) // 5, "hold out features")
    origin = msgspec.structs.replace(features.origin, split=f"{features.origin.split}, held out")
    return (
        Features(features.features[rest], features.labels[rest], features.origin),
        Features(features.features[chosen], features.labels[chosen], origin),
    )


def _version() -> str:
    from importlib.metadata import version

    return version("scikit-learn")
