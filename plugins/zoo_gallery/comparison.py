"""The contents of the page that compares weights: counts of the published answers to the same images."""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from zoo import __version__, registry, statistics
from zoo.errors import MissingExtraError
from zoo.system import storage
from zoo_gallery.facts import Curve, PatchScore, Trained
from zoo_gallery.pages import Row

if TYPE_CHECKING:
    from zoo.evaluation.answers import AnswerSet

FILE = "compare.json"


class Compared(msgspec.Struct, frozen=True):
    """Weights: the share of all images that is right, in per cent with its 95% interval, and the number of each class.

    ``latency`` is that of a batch in milliseconds, ``speed`` in images per second; ``setting`` says where they were
    measured. ``curves`` and ``patches`` are what attacks and transformations do to it, as far as that was measured.
    """

    name: str
    page: str
    params: int
    macs: int
    latency: float | None
    speed: float | None
    setting: str
    curves: tuple[Curve, ...]
    patches: tuple[PatchScore, ...]
    top1: float
    interval: tuple[float, float]
    right: tuple[int, ...]


class Pair(msgspec.Struct, frozen=True, array_like=True):
    """Two of the weights by number: images that one alone has right, McNemar's p, and the interval of the difference.

    The interval is in per cent.
    """

    first: int
    second: int
    only_first: int
    only_second: int
    p: float
    interval: tuple[float, float]


class Together(msgspec.Struct, frozen=True):
    """Weights that classified the same ``n`` images of ``data``; ``images`` are those of each of the ``classes``."""

    data: str
    n: int
    classes: tuple[str, ...]
    images: tuple[int, ...]
    weights: tuple[Compared, ...]
    pairs: tuple[Pair, ...]


class Record(msgspec.Struct, frozen=True):
    """The contents of the file. If ``inputs`` are the same, so are the ``sets``."""

    inputs: str
    sets: tuple[Together, ...]


_ANSWERS = "weights_manifest:answers.parquet"
"""The address in zoo.evaluation.answers, which takes longer to import than a site takes that has not changed."""


def read(folder: Path, rows: Mapping[str, Row]) -> Record | None:
    """Returns the weights of ``rows`` that can be compared, those of most weights first; None if there are none.

    If the file in ``folder`` was made of the same answers and weights, it is read.
    """
    inputs = _digest([row.trained for row in rows.values()])
    with suppress(OSError, msgspec.MsgspecError):
        before = msgspec.json.decode((folder / FILE).read_bytes(), type=Record)
        if before.inputs == inputs:
            return before
    from zoo.evaluation import answers

    try:
        published = answers.contents()
    except MissingExtraError:
        return None
    sha256s = {name: row.trained.weights.sha256 for name, row in rows.items()}
    groups: dict[tuple[str, str], list[int]] = {}
    for place, weights in enumerate(published.weights):
        if weights.ships and sha256s.get(weights.name) == weights.sha256:
            groups.setdefault((weights.data, weights.fingerprint), []).append(place)
    sets = [
        _together(data, [answers.read_row(published, place) for place in places], rows)
        for (data, _), places in groups.items()
        if len(places) > 1
    ]
    return Record(inputs, tuple(sorted(sets, key=lambda one: (-len(one.weights), one.data)))) if sets else None


def _digest(trained: list[Trained]) -> str:
    files = [Path(__file__), Path(statistics.__file__), registry.resource(_ANSWERS)]
    facts = [(it.name, it.weights.sha256, it.params, it.macs, it.latency, it.failures) for it in trained]
    return hashlib.sha256(msgspec.json.encode([__version__, *map(storage.sha256_of, files), facts])).hexdigest()


def _together(data: str, sets: "list[AnswerSet]", rows: Mapping[str, Row]) -> Together:
    import numpy as np

    labels, n = sets[0].labels, len(sets[0].labels)
    order = sorted(range(len(sets)), key=lambda number: -int(sets[number].is_right.sum()))
    right = np.stack([sets[number].is_right for number in order])
    both = (right.astype(np.float64) @ right.T.astype(np.float64)).astype(int)
    count = len(sets[0].classes)
    weights = []
    for number, is_right in zip(order, right, strict=True):
        row = rows[sets[number].name]
        low, high = statistics.wilson(int(is_right.sum()), n)
        latency, failures = row.trained.latency, row.trained.failures
        weights.append(
            Compared(
                row.trained.name, row.link, row.trained.params, row.trained.macs,
                latency.latency_ms if latency else None, latency.images_per_second if latency else None,
                latency.setting if latency else "", failures.curves, failures.patches,
                100 * int(is_right.sum()) / n, (100 * low, 100 * high),
                tuple(np.bincount(labels[is_right], minlength=count).tolist()),
            )
        )  # fmt: skip
    pairs = []
    for first, second in combinations(range(len(order)), 2):
        only = int(both[first, first] - both[first, second]), int(both[second, second] - both[first, second])
        low, high = statistics.paired_interval(*only, n)
        pairs.append(Pair(first, second, *only, statistics.mcnemar(*only), (100 * low, 100 * high)))
    images = tuple(np.bincount(labels, minlength=count).tolist())
    return Together(data, n, sets[0].classes, images, tuple(weights), tuple(pairs))
