"""Comparisons of the answers of several networks to the same images: who is better, what is hard, how they vote.

Nothing here computes a network: answers are counted, paired image by image, and tested by McNemar's exact test.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import msgspec
import numpy as np

from zoo.errors import DataError, SpecError, ZooError
from zoo.evaluation.answers import AnswerSet, aligned, contents, read_answers, read_row
from zoo.loading import resolve
from zoo.manifest import Spread
from zoo.statistics import holm, mcnemar, welch, wilson


class OfClass(msgspec.Struct, frozen=True):
    """Counts of two networks on the ``n`` images of one class; ``corrected`` is ``p`` corrected for the classes."""

    name: str
    n: int
    only_first: int
    only_second: int
    p: float
    corrected: float


class Trainings(msgspec.Struct, frozen=True):
    """The difference of two means of top-1 over trainings, in per cent, with its 95% ``interval``.

    ``p`` is that of Welch's t-test, two-sided: are the means those of one and the same?
    """

    first: Spread
    second: Spread
    difference: float
    interval: tuple[float, float]
    p: float


class Agreement(msgspec.Struct, frozen=True):
    """Two networks on the ``n`` images that both classified.

    ``same`` counts images that both put into the same class, ``same_wrong`` those of them that have another. The
    following four count images by which network is correct. ``p`` is that of McNemar's exact test, two-sided: of the
    images that one network alone classifies correctly, is the share of each network compatible with one half?
    ``corrected`` is ``p`` after Holm's correction for the number of pairs that were asked for.

    ``overlap`` is the share of the first's errors that the second makes, too, and ``overlap_by_chance`` what it would
    be if the errors were independent: the second's share of errors. The former is None if the first makes none.

    All of this is about these two networks. ``trainings`` compares the ways in which they were trained, if the scores
    of both have a spread.
    """

    first: str
    second: str
    data: str
    n: int
    same: int
    same_wrong: int
    both: int
    only_first: int
    only_second: int
    neither: int
    p: float
    corrected: float
    overlap: float | None
    overlap_by_chance: float
    classes: list[OfClass]
    trainings: Trainings | None = None


def compare(first: str | Path, second: str | Path) -> Agreement:
    """Returns how the answers of two networks to the same images agree.

    Args:
        first: Weights whose answers are published, or a file that :func:`zoo.evaluate` wrote (``outputs``).
        second: Others.

    Returns:
        The counts and the exact test, of all images and of each class.

    Raises:
        DataError: They have no image in common.
        WeightsError: No answers of the weights are published.
        MissingExtraError: pyarrow is not installed: ``pip install 'zoo-vision[data]'``.
        FileFormatError: A file has other contents.

    Example:
        >>> import zoo
        >>> agreement = zoo.evaluation.compare("resnet20.c10", "plain20.c10")
        >>> agreement.n, agreement.only_first, agreement.only_second
        (9980, 433, 344)
    """
    return compare_each(first, second)[0]


def compare_each(*sources: str | Path) -> list[Agreement]:
    """Compares each network with each, as :func:`compare` does, and corrects the p-values for the number of pairs.

    Args:
        sources: Two or more weights or files.

    Returns:
        A comparison of each pair, in order.

    Raises:
        SpecError: There are fewer than two, or one twice.
        ZooError: As :func:`compare`.

    Example:
        >>> import zoo
        >>> pairs = zoo.evaluation.compare_each("resnet20.c10", "resnet32.c10", "resnet44.c10")
        >>> [round(pair.corrected, 3) for pair in pairs]
        [0.126, 0.002, 0.126]
    """
    _require_several(sources)
    pairs = [_agreement(*aligned(first, second)) for first, second in combinations(sources, 2)]
    corrected = holm([pair.p for pair in pairs])
    return [msgspec.structs.replace(pair, corrected=p) for pair, p in zip(pairs, corrected, strict=True)]


def _require_several(sources: Sequence[str | Path]) -> None:
    names = [*map(str, sources)]
    if len(names) < 2 or len(set(names)) < len(names):
        raise SpecError(f"{', '.join(names)}: expected two or more different weights or files of outputs.")


def _agreement(first: AnswerSet, second: AnswerSet) -> Agreement:
    right, other = first.is_right, second.is_right
    n, same = len(right), first.predicted == second.predicted
    both, only_first, only_second, neither = (
        int((left & mask).sum()) for left in (right, ~right) for mask in (other, ~other)
    )
    rows = []
    for number in map(int, np.unique(first.labels)):
        of = first.labels == number
        counts = int((of & right & ~other).sum()), int((of & ~right & other).sum())
        rows.append(OfClass(first.class_name(number), int(of.sum()), *counts, p=mcnemar(*counts), corrected=1.0))
    corrected = holm([row.p for row in rows])
    p = mcnemar(only_first, only_second)
    return Agreement(
        first.name, second.name, first.data, n,
        same=int(same.sum()), same_wrong=int((same & ~right).sum()),
        both=both, only_first=only_first, only_second=only_second, neither=neither,
        p=p, corrected=p,
        overlap=neither / (only_second + neither) if only_second + neither else None,
        overlap_by_chance=(only_first + neither) / n,
        classes=[msgspec.structs.replace(row, corrected=value) for row, value in zip(rows, corrected, strict=True)],
        trainings=_trainings(first, second),
    )  # fmt: skip


def _trainings(first: AnswerSet, second: AnswerSet) -> Trainings | None:
    spreads = [_spread(answers) for answers in (first, second)]
    if spreads[0] is None or spreads[1] is None:
        return None
    try:
        p, low, high = welch(spreads[0].top1, spreads[1].top1)
    except ValueError:  # none of the scores differ
        return None
    return Trainings(spreads[0], spreads[1], spreads[0].mean - spreads[1].mean, (low, high), p)


def _spread(answers: AnswerSet) -> Spread | None:
    """Returns the spread of the score that the answers are about."""
    try:
        weights = resolve.find(answers.name).weights
    except ZooError:  # a file, or a training of several
        return None
    score = weights.scores.get(answers.data) if weights is not None else None
    return score.spread if score is not None and score.fingerprint == answers.fingerprint else None


class HardImage(msgspec.Struct, frozen=True):
    """One image, its class, how many weights give it that, and the wrong class that the most of them give it."""

    image: int
    label: str
    correct: int
    wrong: str
    wrong_by: int


class Hardest(msgspec.Struct, frozen=True):
    """The hardest of ``n`` images for ``weights``; ``right_by`` counts the images that 0, 1, ... of them classify
    correctly.
    """

    data: str
    weights: tuple[str, ...]
    n: int
    right_by: list[int]
    images: list[HardImage]


def hardest(data: str, limit: int = 20) -> Hardest:
    """Returns the images of a data set that the fewest of the weights that ship with Zoo classify correctly.

    Args:
        data: The data set, with its split (``cifar10/test``) or without.
        limit: How many images to return, of equally hard ones those with the lower places.

    Returns:
        The images, the hardest first.

    Raises:
        DataError: There are no published answers on this data set.
        MissingExtraError: pyarrow is not installed: ``pip install 'zoo-vision[data]'``.

    Example:
        >>> import zoo
        >>> hard = zoo.evaluation.hardest("cifar10", limit=3)
        >>> len(hard.weights), [image.correct for image in hard.images]
        (24, [0, 0, 0])
    """
    every = contents()
    rows = [
        row
        for row, about in enumerate(every.weights)
        if about.ships and data in (about.data, about.data.rpartition("/")[0])
    ]
    if not rows:
        there = ", ".join(sorted({about.data for about in every.weights}))
        raise DataError(f"No answers on {data} are published.", hint=f"There are answers on {there}.")
    sets = [read_row(every, row) for row in rows]
    first = sets[0]
    correct = np.sum([one.is_right for one in sets], axis=0)
    images = []
    for number in np.argsort(correct, kind="stable")[:limit]:
        wrong = Counter(int(one.predicted[number]) for one in sets if not one.is_right[number])
        chosen, count = min(wrong.items(), key=lambda pair: (-pair[1], pair[0])) if wrong else (-1, 0)
        images.append(
            HardImage(
                int(first.places[number]),
                first.class_name(first.labels[number]),
                int(correct[number]),
                first.class_name(chosen) if wrong else "",
                count,
            )
        )
    right_by = np.bincount(correct, minlength=len(sets) + 1).tolist()
    return Hardest(first.data, tuple(one.name for one in sets), len(correct), right_by, images)


class Vote(msgspec.Struct, frozen=True):
    """An ensemble's score by one rule, with Wilson's 95% interval in per cent, against its best member.

    ``p`` is that of McNemar's exact test, corrected for the number of rules by Holm's method.
    """

    rule: str
    correct: int
    interval: tuple[float, float]
    only_ensemble: int
    only_best: int
    p: float


class Ensemble(msgspec.Struct, frozen=True):
    """Networks that vote on ``n`` images; ``members`` are their counts of correct ones, ``best`` has the highest."""

    data: str
    n: int
    members: dict[str, int]
    best: str
    votes: list[Vote]


def ensemble(*sources: str | Path) -> Ensemble:
    """Scores networks that vote, from their answers alone.

    By ``majority``, each has one vote, and the sum of confidences decides between classes with equally many. By
    ``confidence``, the class with the highest sum of confidences wins. It is not the mean of probabilities, which needs
    those of all classes: a network adds nothing to classes that are not its first. Of networks of which one has no
    confidences there is no second rule, and the earlier network decides between equal ones.

    Args:
        sources: Two or more weights whose answers are published, or files of outputs.

    Returns:
        The scores. The best member was found on the same images, so its own score is too good rather than too bad.

    Raises:
        SpecError: There are fewer than two, or one twice.
        ZooError: As :func:`compare`.

    Example:
        >>> import zoo
        >>> voted = zoo.evaluation.ensemble("resnet20.c10", "plain20.c10", "densenet_bc_40_12.c10")
        >>> voted.best, voted.members[voted.best], voted.votes[0].correct
        ('densenet_bc_40_12.c10', 9156, 9292)
    """
    _require_several(sources)
    sets = aligned(*sources)
    labels, n = sets[0].labels, len(sets[0].labels)
    columns = 1 + max(int(one.predicted.max()) for one in sets)
    votes, sums = np.zeros((n, columns)), np.zeros((n, columns))
    has_all = all(one.confidence is not None for one in sets)
    for place, one in enumerate(sets):
        votes[np.arange(n), one.predicted] += 1
        sums[np.arange(n), one.predicted] += 2.0**-place if one.confidence is None or not has_all else one.confidence
    rules = {"majority": votes + sums / (1 + sums.sum(axis=1, keepdims=True))}
    if has_all:
        rules["confidence"] = sums
    best = max(sets, key=lambda one: int(one.is_right.sum()))
    counts, rows = [], []
    for rule, score in rules.items():
        is_right = score.argmax(axis=1) == labels
        counts.append((int((is_right & ~best.is_right).sum()), int((~is_right & best.is_right).sum())))
        low, high = wilson(int(is_right.sum()), n)
        rows.append((rule, int(is_right.sum()), (100 * low, 100 * high), *counts[-1]))
    corrected = holm([mcnemar(*pair) for pair in counts])
    members = {one.name: int(one.is_right.sum()) for one in sets}
    return Ensemble(
        sets[0].data, n, members, best.name, [Vote(*row, p) for row, p in zip(rows, corrected, strict=True)]
    )


BINS = 15
"""The number of bins of the calibration error in Guo et al., "On calibration of modern neural networks", 2017."""


class Bin(msgspec.Struct, frozen=True):
    """The ``n`` images with confidences above ``low`` up to ``high``: their mean, and how many are correct."""

    low: float
    high: float
    n: int
    confidence: float
    correct: int


class Reliability(msgspec.Struct, frozen=True):
    """The distance of accuracy and confidence on ``n`` images: the expected calibration error, and its bins."""

    name: str
    data: str
    n: int
    ece: float
    bins: list[Bin]


def reliability(source: str | Path) -> Reliability:
    """Returns whether a network is right as often as it is certain, from its answers alone.

    Args:
        source: Weights whose answers are published, or a file of outputs.

    Returns:
        The expected calibration error, in [0, 1], in 15 bins of equal width, and those bins that have images.

    Raises:
        DataError: The network gives classes and no confidences.
        ZooError: As :func:`read_answers`.

    Example:
        >>> import zoo
        >>> measured = zoo.evaluation.reliability("resnet20.c10")
        >>> round(measured.ece, 3), measured.bins[-1].n
        (0.025, 8057)
    """
    answers = read_answers(source)
    if answers.confidence is None:
        raise DataError(f"{answers.name} gives classes and no confidences, so there is nothing to compare them with.")
    column = np.clip(np.ceil(answers.confidence * BINS), 1, BINS).astype(int) - 1  # a bin has its upper end
    bins, n = [], len(answers.labels)
    for number in map(int, np.unique(column)):
        of = column == number
        mean, correct = float(answers.confidence[of].mean()), int(answers.is_right[of].sum())
        bins.append(Bin(number / BINS, (number + 1) / BINS, int(of.sum()), mean, correct))
    error = sum(abs(row.correct - row.n * row.confidence) for row in bins) / n
    return Reliability(answers.name, answers.data, n, error, bins)
