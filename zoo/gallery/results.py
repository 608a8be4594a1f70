"""How networks fail: the files of ``zoo attack curve``, ``zoo look invariance`` and ``zoo look confusion``."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from zoo.errors import DataError
from zoo.gallery.facts import Confusion, Curve, Failures, Scored

_ATTACK = "attack"


class _Method(msgspec.Struct, frozen=True):
    name: str


class _Point(msgspec.Struct, frozen=True):
    epsilon: float
    accuracy: float
    interval: tuple[float, float]


class _Attacked(msgspec.Struct, frozen=True):
    """What the site needs of a curve that ``zoo attack curve`` measured."""

    weights: str
    dataset: str
    split: str
    fingerprint: str
    n: int
    method: _Method
    points: tuple[_Point, ...]
    command: str = ""


class _Transformed(msgspec.Struct, frozen=True):
    """A point that ``zoo look invariance`` measured."""

    model: str
    transformation: str
    strength: float
    n: int
    top1: float
    interval: tuple[float, float]


class _Look(msgspec.Struct, frozen=True):
    """What ``zoo look invariance`` or ``zoo look confusion`` wrote: the fields of the other are empty."""

    data: str
    fingerprint: str
    units: dict[str, str] = {}
    points: tuple[_Transformed, ...] = ()
    weights: str = ""
    n: int = 0
    correct: int = 0
    classes: tuple[str, ...] = ()
    counts: tuple[tuple[int, ...], ...] = ()


def read(files: Iterable[Path]) -> dict[str, Failures]:
    """What is in ``files``, by name of the weights.

    Raises :class:`DataError` for another file, or for one result twice.
    """
    found: dict[tuple[str, str, str], Curve | Confusion] = {}
    for file in files:
        for name, result in _read(file):
            what = result.name if isinstance(result, Curve) else "confusion"
            if (name, what, result.data) in found:
                raise DataError(
                    f"{file} has a second result of {name}, {what} on {result.data}; expected one.",
                    hint="Leave out one of the files.",
                )
            found[name, what, result.data] = result
    results: dict[str, list[Curve | Confusion]] = {}
    for (name, _, _), result in found.items():
        results.setdefault(name, []).append(result)
    return {
        name: Failures(
            tuple(one for one in own if isinstance(one, Curve)), tuple(one for one in own if isinstance(one, Confusion))
        )
        for name, own in results.items()
    }


def _read(file: Path) -> list[tuple[str, Curve | Confusion]]:
    try:
        content = msgspec.json.decode(file.read_bytes(), type=list[_Attacked] | _Look)
        if isinstance(content, list):
            return [*map(_under_attack, content)]
        return [_confused(content)] if content.counts else _transformed(content)
    except (OSError, msgspec.DecodeError, KeyError, ValueError) as error:
        raise DataError(
            f"{file} cannot be read as results: {error}.",
            hint="zoo attack curve, zoo look invariance and zoo look confusion write such files: -o FILE.json",
        ) from None


def _under_attack(it: _Attacked) -> tuple[str, Curve]:
    if not it.points:
        raise ValueError("a curve has no points")
    scored = tuple(Scored(255 * point.epsilon, point.accuracy, point.interval) for point in it.points)
    data = f"{it.dataset}/{it.split}"
    return it.weights, Curve(_ATTACK, it.method.name, "255 epsilon", data, it.n, it.fingerprint, scored, it.command)


def _transformed(it: _Look) -> list[tuple[str, Curve | Confusion]]:
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


def _confused(it: _Look) -> tuple[str, Confusion]:
    sizes = {len(it.counts), *map(len, it.counts)}
    if sizes != {len(it.classes)}:
        raise ValueError(f"{len(it.classes)} classes have counts of {', '.join(map(str, sorted(sizes)))}")
    return it.weights, Confusion(it.data, it.fingerprint, it.n, it.correct, it.classes, it.counts)
