"""Latencies that ``zoo benchmark --csv`` measured."""

import csv
from pathlib import Path

import msgspec

from zoo.errors import DataError
from zoo_gallery.facts import Latency


def read(file: Path) -> dict[str, Latency]:
    """The latencies in ``file`` by name: of inference, at the smallest batch size there.

    Raises :class:`DataError` if the file is not what ``zoo benchmark --csv`` writes, or if its rows cannot be
    compared.
    """
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row.get("mode") == "inference"]
        found = msgspec.convert(rows, list[Latency], strict=False)
    except (UnicodeDecodeError, csv.Error, msgspec.ValidationError) as error:
        raise DataError(
            f"{file} cannot be read as measurements: {error}.", hint="zoo benchmark --csv writes one."
        ) from None
    smallest = min((row.batch_size for row in found), default=0)
    found = [row for row in found if row.batch_size == smallest and row.latency_ms > 0]
    settings = sorted({row.setting for row in found})
    if len(settings) != 1:
        said = "; ".join(settings) or "none of inference"
        raise DataError(
            f"{file} has measurements of {len(settings)} settings, expected one: {said}.",
            hint="Measure all networks on one machine with the same options.",
        )
    return {row.model: row for row in found}
