"""Files of measurements: of ``zoo attack`` and ``zoo look``, ``zoo benchmark`` and ``zoo bulk``."""

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from zoo import results
from zoo.errors import DataError
from zoo.results import Row
from zoo.system import storage
from zoo_gallery.facts import (
    Confusion,
    Curve,
    Example,
    Failures,
    Latency,
    Page,
    PatchScore,
    Predicted,
    Recheck,
    Scored,
    Series,
    Sheet,
    Trained,
)

_WRITERS = "zoo attack curve, zoo attack series, zoo attack patch score, zoo look invariance and zoo look confusion"

Result = Curve | Confusion | Series | PatchScore


class Results(NamedTuple):
    """Measurements by name of the weights, and pictures by name of their file."""

    failures: dict[str, Failures]
    pictures: dict[str, bytes]


_Keep = Callable[[bytes, tuple[int, int], int, int], Sheet]
"""Keeps a file of pictures: its bytes, the size of a picture, columns and rows."""


class _Method(msgspec.Struct, frozen=True):
    name: str


class _Attack(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """The fields that every file of ``zoo attack`` has, as far as the site needs them."""

    weights: str
    dataset: str
    split: str
    fingerprint: str
    n: int
    command: str = ""

    @property
    def data(self) -> str:
        return f"{self.dataset}/{self.split}"


class _AtEpsilon(msgspec.Struct, frozen=True):
    epsilon: float
    accuracy: float
    interval: tuple[float, float]


class _AttackCurve(_Attack, frozen=True, tag="attack_curve"):
    """Written by ``zoo attack curve``."""

    method: _Method
    points: tuple[_AtEpsilon, ...]

    def results(self, _: _Keep) -> list[tuple[str, Result]]:
        if not self.points:
            raise ValueError("a curve has no points")
        scored = tuple(Scored(255 * point.epsilon, point.accuracy, point.interval) for point in self.points)
        about = self.method.name, "255 epsilon", self.data, self.n, self.fingerprint
        return [(self.weights, Curve("attack", *about, scored, self.command))]


class _Prediction(msgspec.Struct, frozen=True):
    index: int
    name: str
    probability: float


class _Image(msgspec.Struct, frozen=True):
    image: int
    label: int
    said: tuple[_Prediction, ...]


class _AttackSeries(_Attack, frozen=True, tag="attack_series"):
    """Written by ``zoo attack series``."""

    method: _Method
    classes: tuple[str, ...]
    epsilons: tuple[float, ...]
    attacked: tuple[_Image, ...]
    tile: tuple[int, int]
    sheet: bytes

    def results(self, keep: _Keep) -> list[tuple[str, Result]]:
        if {len(image.said) for image in self.attacked} != {len(self.epsilons)}:
            raise ValueError(f"images have no prediction for each of {len(self.epsilons)} epsilons")
        names = dict(enumerate(self.classes))
        series = Series(
            name=self.method.name,
            data=self.data,
            fingerprint=self.fingerprint,
            epsilons=tuple(255 * epsilon for epsilon in self.epsilons),
            images=tuple(image.image for image in self.attacked),
            truths=tuple(names.get(image.label, str(image.label)) for image in self.attacked),
            predicted=tuple(
                tuple(Predicted(it.name or str(it.index), it.probability, it.index == image.label) for it in image.said)
                for image in self.attacked
            ),
            sheet=keep(self.sheet, self.tile, len(self.epsilons), len(self.attacked)),
            command=self.command,
        )
        return [(self.weights, series)]


class _AttackPatch(_Attack, frozen=True, tag="attack_patch"):
    """Written by ``zoo attack patch score``."""

    target: int
    target_name: str
    rate: float
    interval: tuple[float, float]
    without: float
    area: float
    tile: tuple[int, int]
    sheet: bytes

    def results(self, keep: _Keep) -> list[tuple[str, Result]]:
        score = PatchScore(
            target=self.target_name or str(self.target),
            data=self.data,
            fingerprint=self.fingerprint,
            n=self.n,
            rate=self.rate,
            interval=self.interval,
            without=self.without,
            area=self.area,
            sheet=keep(self.sheet, self.tile, 1, 1),
            command=self.command,
        )
        return [(self.weights, score)]


class _Transformed(msgspec.Struct, frozen=True):
    model: str
    transformation: str
    strength: float
    n: int
    top1: float
    interval: tuple[float, float]


class _Invariance(msgspec.Struct, frozen=True, tag_field="kind", tag="invariance"):
    """Written by ``zoo look invariance``."""

    data: str
    fingerprint: str
    units: dict[str, str]
    points: tuple[_Transformed, ...]

    def results(self, _: _Keep) -> list[tuple[str, Result]]:
        if not self.points:
            raise ValueError("it has no points")
        runs: dict[tuple[str, str], list[_Transformed]] = {}
        for point in self.points:
            runs.setdefault((point.model, point.transformation), []).append(point)
        curves: list[tuple[str, Result]] = []
        for (weights, name), points in runs.items():
            scored = tuple(Scored(point.strength, point.top1, point.interval) for point in points)
            about = name, self.units[name], self.data, points[0].n, self.fingerprint
            curves.append((weights, Curve("transformation", *about, scored)))
        return curves


class _Examples(msgspec.Struct, frozen=True):
    images: tuple[Example, ...]
    tile: tuple[int, int]
    sheet: bytes


class _Confusion(msgspec.Struct, frozen=True, tag_field="kind", tag="confusion"):
    """Written by ``zoo look confusion``."""

    data: str
    fingerprint: str
    weights: str
    n: int
    correct: int
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    examples: _Examples | None = None

    def results(self, keep: _Keep) -> list[tuple[str, Result]]:
        sizes = {len(self.counts), *map(len, self.counts)}
        if sizes != {len(self.classes)}:
            raise ValueError(f"{len(self.classes)} classes have counts of {', '.join(map(str, sorted(sizes)))}")
        shown = self.examples
        sheet = keep(shown.sheet, shown.tile, 1, len(shown.images)) if shown is not None else None
        examples = shown.images if shown is not None else ()
        about = self.data, self.fingerprint, self.n, self.correct, self.classes, self.counts
        return [(self.weights, Confusion(*about, examples, sheet))]


_Written = _AttackCurve | _AttackSeries | _AttackPatch | _Invariance | _Confusion


def read(files: Iterable[Path]) -> Results:
    """Returns what is in ``files``. Raises :class:`DataError` for another file, or for one result twice."""
    by_subject: dict[tuple[str, str, str], Result] = {}
    pictures: dict[str, bytes] = {}
    for file in files:
        for name, result in _read(file, pictures):
            kind = type(result).__name__.lower()
            what = result.name if isinstance(result, Curve) else f"{kind} {getattr(result, 'name', '')}".strip()
            if (name, what, result.data) in by_subject:
                raise DataError(
                    f"{file} has a second result of {name}, {what} on {result.data}; expected one.",
                    hint="Leave out one of the files.",
                )
            by_subject[name, what, result.data] = result
    results: dict[str, list[Result]] = {}
    for (name, _, _), result in by_subject.items():
        results.setdefault(name, []).append(result)
    return Results({name: _sorted(measured) for name, measured in results.items()}, pictures)


def _sorted(results: list[Result]) -> Failures:
    return Failures(
        tuple(one for one in results if isinstance(one, Curve)),
        tuple(one for one in results if isinstance(one, Confusion)),
        tuple(one for one in results if isinstance(one, Series)),
        tuple(one for one in results if isinstance(one, PatchScore)),
    )


def _read(file: Path, pictures: dict[str, bytes]) -> list[tuple[str, Result]]:
    """Returns the results in ``file``, by name of the weights; adds what they show to ``pictures``."""

    def keep(data: bytes, tile: tuple[int, int], columns: int, rows: int) -> Sheet:
        name = f"{hashlib.sha256(data).hexdigest()[:16]}.webp"
        pictures[name] = data
        return Sheet(name, tile, columns, rows)

    try:
        content = msgspec.json.decode(storage.read_bounded(file, 1 << 28), type=_Written | list[_Written])
        parts = content if isinstance(content, list) else [content]
        return [result for part in parts for result in part.results(keep)]
    except (OSError, msgspec.MsgspecError, KeyError, ValueError) as error:
        raise DataError(
            f"{file} cannot be read as results: {error}.", hint=f"{_WRITERS} write such files: -o FILE.json"
        ) from None


def read_latencies(file: Path) -> dict[str, Latency]:
    """Returns the latencies in ``file`` by name: of inference, at the smallest batch size there.

    Raises :class:`DataError` if the file is not what ``zoo benchmark --csv`` writes, or if its rows cannot be
    compared.
    """
    try:
        with io.StringIO(storage.read_bounded(file, 1 << 28).decode(), newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row.get("mode") == "inference"]
        measured = msgspec.convert(rows, list[Latency], strict=False)
    except (OSError, UnicodeDecodeError, csv.Error, msgspec.ValidationError) as error:
        raise DataError(
            f"{file} cannot be read as measurements: {error}.", hint="zoo benchmark --csv writes one."
        ) from None
    smallest = min((row.batch_size for row in measured), default=0)
    measured = [row for row in measured if row.batch_size == smallest and row.latency_ms > 0]
    settings = sorted({row.setting for row in measured})
    if len(settings) != 1:
        settings_text = "; ".join(settings) or "none of inference"
        raise DataError(
            f"{file} has measurements of {len(settings)} settings, expected one: {settings_text}.",
            hint="Measure all networks on one machine with the same options.",
        )
    return {row.model: row for row in measured}


def add_rechecks(pages: Sequence[Page], tables: Iterable[Path]) -> list[Page]:
    """Returns ``pages`` with the rows of ``tables`` that are about their weights.

    Raises :class:`DataError` for a file that is not a table of results, and for one row twice.
    """
    rows: dict[str, dict[object, Row]] = {}
    for file in tables:
        for row in results.read(file):
            subjects = rows.setdefault(row.weights, {})
            if row.subject in subjects:
                raise DataError(
                    f"{file} has a second row of {row.task}, {row.weights} on {row.data}; expected one.",
                    hint="Leave out one of the tables.",
                )
            subjects[row.subject] = row
    checked = []
    for page in pages:
        trained = tuple(_with(one, rows.get(one.name, {}).values()) for one in page.trained)
        checked.append(msgspec.structs.replace(page, trained=trained))
    return checked


def _with(trained: Trained, rows: Iterable[Row]) -> Trained:
    measured = sorted((row for row in rows if row.status != "skipped"), key=lambda row: row.place)
    return msgspec.structs.replace(trained, rechecks=tuple(Recheck(row, _verdict(trained, row)) for row in measured))


def _verdict(trained: Trained, row: Row) -> str:
    """Compares with the score of the manifest on the same images: better, worse or same; nothing if there is none."""
    for claim in trained.claims:
        score = claim.score
        if row.task == "evaluate" and claim.split == row.data and claim.interval and score.fingerprint:
            before = msgspec.structs.replace(
                row,
                status="done",
                n=score.n,
                correct=score.right,
                top1=score.top1,
                fingerprint=score.fingerprint,
                sha256=trained.weights.sha256,
            )
            [change] = results.compare([row], [before])
            return change.verdict
    return ""
