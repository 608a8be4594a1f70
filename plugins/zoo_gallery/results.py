"""How networks fail: the files of ``zoo attack`` and ``zoo look`` that measure it."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from zoo.errors import DataError
from zoo_gallery.failures import Confusion, Curve, Example, Failures, PatchScore, Predicted, Scored, Series, Sheet

_WRITERS = "zoo attack curve, zoo attack series, zoo attack patch score, zoo look invariance and zoo look confusion"

Result = Curve | Confusion | Series | PatchScore


class Results(NamedTuple):
    """What was measured, by name of the weights, and pictures by name of their file."""

    failures: dict[str, Failures]
    pictures: dict[str, bytes]


class _Method(msgspec.Struct, frozen=True):
    name: str


class _Point(msgspec.Struct, frozen=True):
    epsilon: float
    accuracy: float
    interval: tuple[float, float]


class _Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What the site needs of what ``zoo attack`` measured."""

    weights: str
    dataset: str
    split: str
    fingerprint: str
    n: int
    command: str = ""

    @property
    def data(self) -> str:
        return f"{self.dataset}/{self.split}"


class _Attacked(_Measured, frozen=True):
    """A curve of ``zoo attack curve``."""

    method: _Method
    points: tuple[_Point, ...]


class _Said(msgspec.Struct, frozen=True):
    index: int
    name: str
    probability: float


class _Image(msgspec.Struct, frozen=True):
    image: int
    label: int
    said: tuple[_Said, ...]


class _Series(_Measured, frozen=True):
    """What ``zoo attack series`` wrote."""

    method: _Method
    classes: tuple[str, ...]
    epsilons: tuple[float, ...]
    attacked: tuple[_Image, ...]
    tile: tuple[int, int]
    sheet: bytes


class _Patch(_Measured, frozen=True):
    """What ``zoo attack patch score`` wrote."""

    target: int
    target_name: str
    rate: float
    interval: tuple[float, float]
    without: float
    area: float
    tile: tuple[int, int]
    sheet: bytes


class _Transformed(msgspec.Struct, frozen=True):
    """A point that ``zoo look invariance`` measured."""

    model: str
    transformation: str
    strength: float
    n: int
    top1: float
    interval: tuple[float, float]


class _Invariance(msgspec.Struct, frozen=True):
    data: str
    fingerprint: str
    units: dict[str, str]
    points: tuple[_Transformed, ...]


class _Examples(msgspec.Struct, frozen=True):
    images: tuple[Example, ...]
    tile: tuple[int, int]
    sheet: bytes


class _Confusion(msgspec.Struct, frozen=True):
    """What ``zoo look confusion`` wrote."""

    data: str
    fingerprint: str
    weights: str
    n: int
    correct: int
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    examples: _Examples | None = None


def read(files: Iterable[Path]) -> Results:
    """What is in ``files``. Raises :class:`DataError` for another file, or for one result twice."""
    found: dict[tuple[str, str, str], Result] = {}
    pictures: dict[str, bytes] = {}
    for file in files:
        for name, result in _read(file, pictures):
            kind = type(result).__name__.lower()
            what = result.name if isinstance(result, Curve) else f"{kind} {getattr(result, 'name', '')}".strip()
            if (name, what, result.data) in found:
                raise DataError(
                    f"{file} has a second result of {name}, {what} on {result.data}; expected one.",
                    hint="Leave out one of the files.",
                )
            found[name, what, result.data] = result
    results: dict[str, list[Result]] = {}
    for (name, _, _), result in found.items():
        results.setdefault(name, []).append(result)
    return Results({name: _sorted(own) for name, own in results.items()}, pictures)


def _sorted(results: list[Result]) -> Failures:
    return Failures(
        tuple(one for one in results if isinstance(one, Curve)),
        tuple(one for one in results if isinstance(one, Confusion)),
        tuple(one for one in results if isinstance(one, Series)),
        tuple(one for one in results if isinstance(one, PatchScore)),
    )


def _read(file: Path, pictures: dict[str, bytes]) -> list[tuple[str, Result]]:
    """The results in ``file``, by name of the weights; adds what they show to ``pictures``."""

    def keep(data: bytes, tile: tuple[int, int], columns: int, rows: int) -> Sheet:
        name = f"{hashlib.sha256(data).hexdigest()[:16]}.webp"
        pictures[name] = data
        return Sheet(name, tile, columns, rows)

    try:
        content = msgspec.json.decode(file.read_bytes())
        if isinstance(content, list):
            return [*map(_under_attack, msgspec.convert(content, list[_Attacked]))]
        if "attacked" in content:
            return [_at_epsilons(msgspec.convert(content, _Series), keep)]
        if "fooled" in content:
            return [_patched(msgspec.convert(content, _Patch), keep)]
        if "counts" in content:
            return [_confused(msgspec.convert(content, _Confusion), keep)]
        return _transformed(msgspec.convert(content, _Invariance))
    except (OSError, msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{file} cannot be read as results: {error}.", hint=f"{_WRITERS} write such files: -o FILE.json"
        ) from None


_Keep = Callable[[bytes, tuple[int, int], int, int], Sheet]


def _under_attack(it: _Attacked) -> tuple[str, Result]:
    if not it.points:
        raise ValueError("a curve has no points")
    scored = tuple(Scored(255 * point.epsilon, point.accuracy, point.interval) for point in it.points)
    return it.weights, Curve(
        "attack", it.method.name, "255 epsilon", it.data, it.n, it.fingerprint, scored, it.command
    )  # fmt: skip


def _at_epsilons(it: _Series, keep: _Keep) -> tuple[str, Result]:
    if {len(one.said) for one in it.attacked} != {len(it.epsilons)}:
        raise ValueError(f"images have no prediction for each of {len(it.epsilons)} epsilons")
    names = dict(enumerate(it.classes))
    return it.weights, Series(
        name=it.method.name,
        data=it.data,
        fingerprint=it.fingerprint,
        epsilons=tuple(255 * epsilon for epsilon in it.epsilons),
        images=tuple(one.image for one in it.attacked),
        truths=tuple(names.get(one.label, str(one.label)) for one in it.attacked),
        predicted=tuple(
            tuple(
                Predicted(said.name or str(said.index), said.probability, said.index == one.label) for said in one.said
            )
            for one in it.attacked
        ),
        sheet=keep(it.sheet, it.tile, len(it.epsilons), len(it.attacked)),
        command=it.command,
    )


def _patched(it: _Patch, keep: _Keep) -> tuple[str, Result]:
    return it.weights, PatchScore(
        target=it.target_name or str(it.target),
        data=it.data,
        fingerprint=it.fingerprint,
        n=it.n,
        rate=it.rate,
        interval=it.interval,
        without=it.without,
        area=it.area,
        sheet=keep(it.sheet, it.tile, 1, 1),
        command=it.command,
    )


def _transformed(it: _Invariance) -> list[tuple[str, Result]]:
    if not it.points:
        raise ValueError("it has no points")
    runs: dict[tuple[str, str], list[_Transformed]] = {}
    for point in it.points:
        runs.setdefault((point.model, point.transformation), []).append(point)
    return [
        (
            weights,
            Curve(
                "transformation", name, it.units[name], it.data, points[0].n, it.fingerprint,
                tuple(Scored(point.strength, point.top1, point.interval) for point in points),
            ),
        )
        for (weights, name), points in runs.items()
    ]  # fmt: skip


def _confused(it: _Confusion, keep: _Keep) -> tuple[str, Result]:
    sizes = {len(it.counts), *map(len, it.counts)}
    if sizes != {len(it.classes)}:
        raise ValueError(f"{len(it.classes)} classes have counts of {', '.join(map(str, sorted(sizes)))}")
    shown = it.examples
    sheet = keep(shown.sheet, shown.tile, 1, len(shown.images)) if shown is not None else None
    return it.weights, Confusion(
        it.data, it.fingerprint, it.n, it.correct, it.classes, it.counts, shown.images if shown else (), sheet
    )
