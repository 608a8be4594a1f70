"""How networks fail: the files of ``zoo attack curve`` and ``zoo look invariance``."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from zoo.errors import DataError
from zoo.gallery.facts import Curve, Scored

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


class _Invariance(msgspec.Struct, frozen=True):
    data: str
    fingerprint: str
    units: dict[str, str]
    points: tuple[_Transformed, ...]


def read(files: Iterable[Path]) -> dict[str, tuple[Curve, ...]]:
    """The curves in ``files`` by name of the weights.

    Raises :class:`DataError` for a file that is neither of the two, or for a curve that two files have.
    """
    found: dict[str, dict[tuple[str, str, str], Curve]] = {}
    for file in files:
        for name, curve in _read(file):
            key = (curve.kind, curve.name, curve.data)
            if key in found.setdefault(name, {}):
                raise DataError(
                    f"{file} has a second curve of {name} for {curve.name} on {curve.data}, expected one.",
                    hint="Leave out one of the files.",
                )
            found[name][key] = curve
    return {name: tuple(curves.values()) for name, curves in found.items()}


def _read(file: Path) -> list[tuple[str, Curve]]:
    try:
        content = msgspec.json.decode(file.read_bytes(), type=list[_Attacked] | _Invariance)
        return [*map(_under_attack, content)] if isinstance(content, list) else _transformed(content)
    except (OSError, msgspec.DecodeError, KeyError) as error:
        raise DataError(
            f"{file} cannot be read as results: {error}.",
            hint="zoo attack curve -o FILE.json and zoo look invariance -o FILE.json write such files.",
        ) from None


def _under_attack(it: _Attacked) -> tuple[str, Curve]:
    scored = tuple(Scored(255 * point.epsilon, point.accuracy, point.interval) for point in it.points)
    data = f"{it.dataset}/{it.split}"
    return it.weights, Curve(_ATTACK, it.method.name, "255 epsilon", data, it.n, it.fingerprint, scored, it.command)


def _transformed(it: _Invariance) -> list[tuple[str, Curve]]:
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
