"""Answers, the class and the confidence that a network gives each image: published ones, and those of files.

``weights_manifest/answers.parquet`` has the answers of all weights that ship with Zoo, and of the other trainings of
those whose scores have a spread; ``docs/answers.py`` stores them.
"""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from zoo import registry
from zoo.errors import DataError, MissingExtraError, WeightsError
from zoo.loading import resolve

Array = NDArray[Any]

ADDRESS = "weights_manifest:answers.parquet"
"""The file with the published answers, a row group for each of the weights."""

KEY = "zoo"
"""The entry of the file's metadata that :class:`Contents` describes."""


class Published(msgspec.Struct, frozen=True):
    """The weights ``name`` with this hash, whose answers to images of ``data`` are one row group.

    ``NAME/seed3`` is one of the trainings of which ``NAME`` is the median.
    """

    name: str
    sha256: str
    data: str
    fingerprint: str

    @property
    def ships(self) -> bool:
        """Whether these weights ship with Zoo: of a training of several, the answers alone do."""
        return "/" not in self.name


class Contents(msgspec.Struct, frozen=True):
    """The metadata of the file: ``weights`` in the order of the row groups, and the names of each data set's
    classes.
    """

    version: int
    weights: tuple[Published, ...]
    classes: dict[str, tuple[str, ...]]


class AnswerSet(NamedTuple):
    """A network's answers to N images of one data set.

    ``places``, ``labels`` and ``predicted`` are int64 N: an image's place in the data set as it is published, its
    class, and the class that the network gives it. ``confidence``, float64 N, is the softmax of the latter; None if
    the network gives classes alone. ``identities``, uint8 N 32, are in files of outputs alone.
    """

    name: str
    data: str
    fingerprint: str
    classes: tuple[str, ...]
    places: Array
    labels: Array
    predicted: Array
    confidence: Array | None
    identities: Array | None = None

    @property
    def is_right(self) -> Array:
        """Whether each image gets its class, bool N."""
        return np.equal(self.predicted, self.labels)

    def class_name(self, number: int) -> str:
        """Returns the name of a class; a network may have more than its data set."""
        return self.classes[number] if number < len(self.classes) else f"class {number}"

    def subset(self, numbers: Array) -> "AnswerSet":
        """Returns the answers ``numbers``, in that order."""
        return self._replace(
            places=self.places[numbers],
            labels=self.labels[numbers],
            predicted=self.predicted[numbers],
            confidence=None if self.confidence is None else self.confidence[numbers],
            identities=None if self.identities is None else self.identities[numbers],
        )


def contents() -> Contents:
    """Returns what is published. Raises :class:`MissingExtraError` without pyarrow."""
    return _contents(registry.resource(ADDRESS))


@functools.cache
def _contents(file: Path) -> Contents:
    try:
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError.of("Reading published answers", "pyarrow", "zoo-vision[data]") from None
    return msgspec.json.decode(parquet.read_metadata(file).metadata[KEY.encode()], type=Contents)


def published(sha256: str) -> AnswerSet | None:
    """Returns the published answers of the weights with this hash; None if there are none, or no pyarrow."""
    try:
        every = contents()
    except MissingExtraError:
        return None
    rows = [row for row, weights in enumerate(every.weights) if weights.sha256 == sha256]
    return read_row(every, rows[0]) if rows else None


def read_row(every: Contents, row: int) -> AnswerSet:
    """Returns the answers of one row group."""
    from pyarrow import parquet

    about = every.weights[row]
    with parquet.ParquetFile(registry.resource(ADDRESS)) as file:
        table = file.read_row_group(row, columns=["image", "label", "class", "confidence"])
    places, labels, predicted = (table[name].to_numpy().astype(np.int64) for name in ("image", "label", "class"))
    confidence = None if table["confidence"].null_count else table["confidence"].to_numpy().astype(np.float64)
    classes = every.classes[about.data]
    return AnswerSet(about.name, about.data, about.fingerprint, classes, places, labels, predicted, confidence)


def read_answers(source: str | Path) -> AnswerSet:
    """Reads the answers of weights to the images of their claim, without computing anything.

    Args:
        source: Weights that ship with Zoo, a model for its default weights, ``NAME/seedN`` for one of the trainings of
            which the weights ``NAME`` are the median, or a file that :func:`zoo.evaluate` wrote (``outputs``).

    Returns:
        Class and confidence of each image. Published confidences are rounded to four decimals.

    Raises:
        UnknownNameError: There is no such name.
        WeightsError: No answers of these weights are published.
        MissingExtraError: pyarrow is not installed: ``pip install 'zoo-vision[data]'``.
        FileFormatError: The file has other contents.

    Example:
        >>> import zoo
        >>> answers = zoo.evaluation.read_answers("resnet20.c10")
        >>> len(answers.labels), int(answers.is_right.sum())
        (9980, 9155)
    """
    if Path(source).suffix == ".safetensors" or Path(source).is_file():
        return _of_file(Path(source))
    name, is_of_seed, _ = str(source).partition("/seed")
    weights = resolve.weights_for(resolve.find(name if is_of_seed else str(source)))
    every = contents()
    for row, about in enumerate(every.weights):
        if about.name == str(source) if is_of_seed else weights.sha256 == about.sha256:
            return read_row(every, row)
    if is_of_seed:
        there = [about.name.rpartition("/")[2] for about in every.weights if about.name.startswith(f"{weights.name}/")]
        raise WeightsError(f"No answers of {source} are published.", hint=f"There are {', '.join(there) or 'none'}.")
    raise WeightsError(
        f"No answers of {weights.name} are published.",
        hint=f"zoo evaluate {weights.name} --outputs FILE.safetensors stores them: give that file instead.",
    )


def _of_file(file: Path) -> AnswerSet:
    from zoo.evaluation.outputs import read_outputs

    stored = read_outputs(file)
    report, logits = stored.about.report, stored.outputs.logits
    predicted = stored.outputs.ranked[:, 0]
    confidence = None
    if logits is not None:
        confidence = logits.double().softmax(dim=1).gather(1, predicted[:, None])[:, 0].numpy()
    return AnswerSet(
        report.weights or report.model,
        f"{report.dataset}/{report.split}",
        report.fingerprint,
        stored.about.classes,
        np.arange(report.n),
        stored.labels.numpy(),
        predicted.numpy(),
        confidence,
        stored.identities.numpy(),
    )


def aligned(*sources: str | Path) -> list[AnswerSet]:
    """Returns the answers of each source to the images that all of them have, in the order of the first.

    Images of files are matched by their identities. Published answers have none: these are of the same images if the
    fingerprints are equal, or if the data set is and the labels at the same places are.

    Raises :class:`DataError` if there is no such image; else as :func:`read_answers`.
    """
    first, *others = map(read_answers, sources)
    numbers = np.arange(len(first.labels))
    pairs = [_common(first, other) for other in others]
    for of_first, _ in pairs:
        numbers = np.intersect1d(numbers, of_first)
    if not len(numbers):
        raise DataError(f"{', '.join(map(str, sources))} have no image in common, so they cannot be compared.")
    chosen = [first.subset(numbers)]
    for other, (of_first, of_other) in zip(others, pairs, strict=True):
        place = np.full(len(first.labels), -1)
        place[of_first] = of_other
        chosen.append(other.subset(place[numbers]))
    return chosen


def _common(first: AnswerSet, second: AnswerSet) -> tuple[Array, Array]:
    """Returns the numbers of the images that both have; equal images are matched in order."""
    if first.fingerprint == second.fingerprint and len(first.labels) == len(second.labels):
        return np.arange(len(first.labels)), np.arange(len(second.labels))
    nothing = np.arange(0), np.arange(0)
    if first.identities is not None and second.identities is not None:
        waiting: dict[bytes, list[int]] = {}
        for number in range(len(second.labels) - 1, -1, -1):
            waiting.setdefault(second.identities[number].tobytes(), []).append(number)
        pairs = [
            (number, same.pop())
            for number, identity in enumerate(first.identities)
            if (same := waiting.get(identity.tobytes()))
        ]
        return (np.array(pairs)[:, 0], np.array(pairs)[:, 1]) if pairs else nothing
    if first.data != second.data:
        return nothing
    _, of_first, of_second = np.intersect1d(first.places, second.places, return_indices=True)
    is_same = np.array_equal(first.labels[of_first], second.labels[of_second])
    return (of_first, of_second) if is_same else nothing
