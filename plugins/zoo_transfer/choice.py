"""Weights ranked for one's own images, on this machine: their latency, and a linear probe on their features."""

import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch

from zoo import data as datasets
from zoo import registry
from zoo.data import ImageSet
from zoo.data.image_set import stratified_split
from zoo.errors import DataError, MissingExtraError, ZooError
from zoo.evaluation.speed import benchmark
from zoo.hub.maintenance import LocalFiles
from zoo.loading.create import create, info_of
from zoo.registry import listing
from zoo.statistics import wilson
from zoo.system.progress import count
from zoo.training.classifiers import configure, require_sklearn
from zoo.trust import first_use
from zoo_transfer.extraction import features

SAMPLE = 500
"""Images that are probed unless more are asked for."""

_FOLDS = 5


class Candidate(msgspec.Struct, frozen=True):
    """Weights on this machine: milliseconds for one image, and how a linear probe on their features does.

    ``side`` is the shorter side of the network's input in pixels. ``top1`` and its Wilson ``interval`` (95%) are in per
    cent of ``n`` images, each classified by a probe that has not seen it. Weights that take longer than the budget are
    not probed; ``reason`` says so, or why they cannot be used.
    """

    name: str
    latency_ms: float | None = None
    side: int | None = None
    params_m: float | None = None
    n: int = 0
    correct: int = 0
    top1: float | None = None
    interval: tuple[float, float] | None = None
    reason: str = ""


class Choice(msgspec.Struct, frozen=True):
    """Candidates, the best first, those without a score last; ``command`` trains the winner.

    ``image_side`` is the shorter side of the images in pixels, the median of the first hundred.
    """

    data: str
    budget_ms: float | None
    device: str
    candidates: tuple[Candidate, ...]
    command: str
    image_side: int = 0


def at_hand(patterns: Sequence[str] = ()) -> list[str]:
    """Returns the weights that ``patterns`` match or, without any, all that need no network and are no collection's.

    Networks that are fitted, not trained, are left out: they cannot be trained further.
    """
    if patterns:
        return list(dict.fromkeys(name for pattern in patterns for name in _matching(pattern)))
    local = LocalFiles()
    listed = [entry for entry in registry.current().models() if not entry.model.fitted]
    return [f"{entry.name}.{weights.tag}" for entry, weights in first_use.entries(listed) if local.has(weights)]


def _matching(pattern: str) -> list[str]:
    matching = listing.list_models(pattern, pretrained=True)
    return matching or [registry.current().find(pattern).model.name]  # which raises, with the nearest name


def choose(
    data: str | Path | ImageSet,
    names: Iterable[str],
    *,
    budget_ms: float | None = None,
    limit: int = SAMPLE,
    device: str = "cpu",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Choice:
    """Measures weights on this machine and on a sample of the training images of ``data``, and ranks them.

    Args:
        data: A data set's name or path, whose split ``train`` is sampled, or images.
        names: The weights.
        budget_ms: The latency for one image in milliseconds that no weights may exceed.
        limit: The images of the sample, in proportion to the classes.
        device: Where to measure.
        seed: Decides which images are in which fold of the probe.
        progress: Called with (candidates done, candidates in all).

    Returns:
        The candidates, the highest score of the probe first; of equals, the fastest.

    Raises:
        DataError: A class has fewer than two images in the sample.
        MissingExtraError: scikit-learn is missing: ``pip install 'zoo-vision[data]'``.
    """
    require_sklearn("zoo choose")
    images = data if isinstance(data, ImageSet) else datasets.load(data, "train")
    if limit < len(images):
        images = images.subset(stratified_split(images.labels, limit, "choose weights")[1], images.split)
    counts = torch.bincount(images.labels, minlength=len(images.classes))
    if len(images.classes) < 2 or int(counts.min()) < 2:
        scarce = images.classes[int(counts.argmin())]
        raise DataError(
            f"{images.name}: a sample of {len(images)} images has {int(counts.min())} of {scarce!r}, too few to probe.",
            hint="Add images, or raise --limit.",
        )
    names = [*names]
    candidates = []
    for number, name in enumerate(names):
        candidates.append(_measure(name, images, budget_ms, device, seed))
        if progress is not None:
            progress(number + 1, len(names))
    candidates.sort(key=lambda row: (row.top1 is None, -(row.top1 or 0), row.latency_ms or float("inf")))
    source = "DATA" if isinstance(data, ImageSet) else str(data)
    best = candidates[0] if candidates and candidates[0].top1 is not None else None
    command = ""
    if best is not None:
        command = shlex.join(["zoo", "train", "--init", best.name, "--data", source, "-o", f"runs/{images.name}"])
    sides = sorted(min(images.image(index).size) for index in range(min(100, len(images))))
    return Choice(source, budget_ms, device, tuple(candidates), command, sides[len(sides) // 2])


def _measure(name: str, images: ImageSet, budget_ms: float | None, device: str, seed: int) -> Candidate:
    try:
        network = create(name, pretrained=True, device=device).eval()
        speed = benchmark(network, warmup=3, steps=10, seconds=5)
        measured = Candidate(name, speed.latency_ms, min(info_of(network).preprocess.input_size[1:]), speed.params_m)
        if budget_ms is not None and speed.latency_ms > budget_ms:
            return msgspec.structs.replace(measured, reason="slower than the budget")
        if images.channels == 3 and info_of(network).preprocess.input_size[0] == 1:
            return msgspec.structs.replace(measured, reason="sees grey, and the images are in colour")
        probed = features(network, images, batch_size=32).features.numpy()
    except MissingExtraError as error:
        return Candidate(name, reason=error.hint)
    except ZooError as error:
        return Candidate(name, reason=error.message)
    correct = _probe(probed, images.labels.numpy(), seed)
    low, high = wilson(correct, len(images))
    return msgspec.structs.replace(
        measured,
        n=len(images),
        correct=correct,
        top1=100 * correct / len(images),
        interval=(100 * low, 100 * high),
    )


def _probe(values: "np.ndarray", labels: "np.ndarray", seed: int) -> int:
    """Returns how many images a logistic regression classifies correctly that was fitted to the other folds."""
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(min(_FOLDS, int(np.bincount(labels).min())), shuffle=True, random_state=seed)
    predicted = cross_val_predict(configure("logistic", {"C": 0.1}).build(), values, labels, cv=folds)
    return int((predicted == labels).sum())


def describe(candidate: Candidate) -> tuple[str, ...]:
    """Returns the cells of a row of the table of candidates."""
    interval = f"{candidate.interval[0]:.1f} to {candidate.interval[1]:.1f}" if candidate.interval else ""
    return (
        candidate.name,
        "" if candidate.top1 is None else f"{candidate.top1:.1f}%",
        interval,
        "" if candidate.latency_ms is None else f"{candidate.latency_ms:.2f} ms",
        "" if candidate.params_m is None else count(round(candidate.params_m * 1e6)),
        candidate.reason,
    )
