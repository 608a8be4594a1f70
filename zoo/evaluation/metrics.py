"""Every score of a network from a file of its outputs alone."""

from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from zoo.evaluation.calibration import measures_of
from zoo.evaluation.outputs import StoredOutputs, answers, read_outputs
from zoo.evaluation.score import Tally
from zoo.statistics import wilson


class OfClass(msgspec.Struct, frozen=True):
    """One class: its ``n`` images, of which ``correct`` are classified as it, and the images ``predicted`` as it.

    ``recall``, its 95% interval and ``precision`` are in per cent; None if there are no such images.
    """

    name: str
    n: int
    correct: int
    predicted: int
    recall: float | None
    interval: tuple[float, float] | None
    precision: float | None


class Metrics(msgspec.Struct, frozen=True):
    """The fields that :class:`zoo.evaluation.Report` has of a score, and what follows from the outputs.

    ``topk`` are the shares of images with a correct class among the first 1, 2, ... (per cent). ``nll``, ``ece`` (15
    bins) and ``brier`` are None without logits. ``confusion`` counts images by true and by predicted class.
    """

    weights: str
    dataset: str
    split: str
    fingerprint: str
    n: int
    correct: int
    top1: float
    interval: tuple[float, float]
    mean_class: float
    mean_class_interval: tuple[float, float]
    topk: list[float]
    nll: float | None
    ece: float | None
    brier: float | None
    classes: list[OfClass]
    confusion: list[list[int]]


def measure(file: str | Path) -> Metrics:
    """Computes all scores of the outputs in a file, without the network.

    Counts, and what follows from them, are those of the evaluation. Logits are stored in float16 (each row less its
    largest, down to -65,504), so cross-entropy,
    calibration error and Brier score differ from those of the network by rounding.

    Args:
        file: A file that :func:`zoo.evaluate` wrote (``outputs``).

    Returns:
        The scores.

    Raises:
        FileFormatError: The file has other contents.

    Example:
        >>> import zoo
        >>> report = zoo.evaluate("resnet20.digits", "digits", outputs="outputs.safetensors")
        >>> zoo.evaluation.measure("outputs.safetensors").top1 == report.top1
        True
    """
    stored = read_outputs(file)
    about, outputs, labels = stored.about, stored.outputs, stored.labels
    tally = Tally(len(about.classes))
    tally.add_classes(outputs.ranked, labels)
    scores: dict[str, Any] = tally.scores()
    confusion = _confusion(stored)
    calibration = measures_of(outputs.logits, labels) if outputs.logits is not None else {}
    ranks = (outputs.ranked == labels[:, None]).sum(dim=0).cumsum(dim=0).tolist()
    return Metrics(
        weights=about.report.weights or about.report.model,
        dataset=about.report.dataset,
        split=about.report.split,
        fingerprint=about.report.fingerprint,
        n=len(labels),
        **{name: scores[name] for name in ("correct", "top1", "interval", "mean_class", "mean_class_interval")},
        topk=[100 * count / len(labels) for count in ranks],
        nll=calibration.get("nll"),
        ece=calibration.get("ece"),
        brier=calibration.get("brier"),
        classes=[_of_class(name, row, confusion) for row, name in enumerate(about.classes)],
        confusion=confusion[: len(about.classes)].tolist(),
    )


def _confusion(stored: StoredOutputs) -> Tensor:
    """Counts images by true and by predicted class; a network may have more classes than the data set."""
    predicted = stored.outputs.ranked[:, 0]
    classes = max(len(stored.about.classes), int(predicted.max()) + 1)
    return answers(predicted, None, stored.labels, classes).confusion


def _of_class(name: str, row: int, confusion: Tensor) -> OfClass:
    n, predicted, correct = int(confusion[row].sum()), int(confusion[:, row].sum()), int(confusion[row, row])
    low, high = wilson(correct, n) if n else (0.0, 0.0)
    return OfClass(
        name, n, correct, predicted,
        recall=100 * correct / n if n else None,
        interval=(100 * low, 100 * high) if n else None,
        precision=100 * correct / predicted if predicted else None,
    )  # fmt: skip


def pairs(metrics: Metrics) -> list[tuple[str, str, int]]:
    """Returns the classes that are confused: true, predicted, and the number of images, most first."""
    names = [one.name for one in metrics.classes]
    confused = [
        (names[true], names[predicted] if predicted < len(names) else f"class {predicted}", count)
        for true, row in enumerate(metrics.confusion)
        for predicted, count in enumerate(row)
        if true != predicted and count
    ]
    return sorted(confused, key=lambda pair: -pair[2])
