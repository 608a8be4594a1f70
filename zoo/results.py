"""Tables of results: one row for each score, with all that it takes to measure it again.

As files they are CSV, and Parquet if pyarrow is installed. Two of them are compared: what is better, worse or the same.
"""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from zoo import names
from zoo.errors import DataError, MissingExtraError
from zoo.statistics import LEVEL, fisher, holm
from zoo.system import storage

Status = Literal["done", "failed", "skipped"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One result of weights, or why there is none. It holds nothing that depends on speed, time or machine.

    ``setting`` has the options of the command that were given. ``top1``, its Wilson interval ``low`` to ``high``,
    ``mean_class``, its bootstrap interval ``mean_low`` to ``mean_high``, and ``top5`` are in per cent of ``n`` images,
    ``loss`` is in nats. ``close`` counts the images whose two best logits lie within rounding. ``epsilon`` is the
    radius of an ``attack``. ``difference`` is the largest one from a probe, or from the network that was exported.
    ``file`` is within the folder of the results. ``key`` is the sha256 of what decides the result.
    """

    task: str
    weights: str
    data: str = ""
    setting: str = ""
    attack: str = ""
    epsilon: float | None = None
    status: Status = "done"
    reason: str = ""
    n: int | None = None
    correct: int | None = None
    top1: float | None = None
    low: float | None = None
    high: float | None = None
    mean_class: float | None = None
    mean_low: float | None = None
    mean_high: float | None = None
    close: int | None = None
    top5: float | None = None
    loss: float | None = None
    difference: float | None = None
    params: int | None = None
    macs: int | None = None
    file: str = ""
    family: str = ""
    sha256: str = ""
    fingerprint: str = ""
    zoo: str = ""
    torch: str = ""
    python: str = ""
    command: str = ""
    key: str = ""

    @property
    def subject(self) -> tuple[str, str, str, str, str, float]:
        """The subject of the row: two tables have the same result of it, or results that can be compared."""
        epsilon = -1.0 if self.epsilon is None else self.epsilon
        return self.task, self.data, self.weights, self.setting, self.attack, epsilon

    @property
    def place(self) -> tuple[object, ...]:
        """The place of the row in a sorted table."""
        task, data, weights, *rest = self.subject
        return task, data, names.natural(weights), *rest


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of a result, where it was measured: another run has other values.

    ``seconds`` and ``memory_mb`` are of the whole job, the others what the task itself measured.
    """

    key: str
    task: str
    weights: str
    data: str = ""
    setting: str = ""
    seconds: float | None = None
    memory_mb: float | None = None
    images_per_s: float | None = None
    latency_ms: float | None = None
    latency_p95_ms: float | None = None
    batch_size: int | None = None
    mode: str = ""
    precision: str = ""
    device: str = ""
    hardware: str = ""
    threads: int | None = None


NAME = "results.csv"
SPEED = "speed.csv"

Line = TypeVar("Line", Row, Speed)


def write(folder: Path, rows: Sequence[Row], speeds: Sequence[Speed]) -> list[Path]:
    """Writes ``results.csv``, ``results.parquet`` and ``speed.csv``; equal rows give equal bytes.

    Returns the files. Without pyarrow there is no Parquet file.
    """
    files = {folder / NAME: _csv(rows, Row), folder / SPEED: _csv(speeds, Speed)}
    if find_spec("pyarrow") is not None:
        files[(folder / NAME).with_suffix(".parquet")] = _parquet(rows)
    for file, data in files.items():
        storage.replace(file, data)
    return [*files]


def read(file: str | Path) -> list[Row]:
    """Returns the rows of a table of results, a CSV or Parquet file.

    Raises:
        DataError: The file is not such a table.
        MissingExtraError: pyarrow, which reads Parquet, is not installed.
    """
    file = Path(file)
    return _read(file, Row, "zoo bulk evaluate PATTERN -o DIR writes one: DIR/results.csv")


def read_speed(file: str | Path) -> list[Speed]:
    """Returns the rows of ``speed.csv``; raises :class:`DataError` for another file."""
    return _read(Path(file), Speed, "zoo bulk evaluate PATTERN -o DIR writes one: DIR/speed.csv")


def _csv(rows: Sequence[Row] | Sequence[Speed], kind: type[Row] | type[Speed]) -> bytes:
    text = io.StringIO()
    table = csv.DictWriter(text, kind.__struct_fields__, lineterminator="\n")
    table.writeheader()
    table.writerows(map(msgspec.to_builtins, rows))
    return text.getvalue().encode()


def _parquet(rows: Sequence[Row]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    kinds = {int | None: pyarrow.int64(), float | None: pyarrow.float64()}
    fields = msgspec.structs.fields(Row)
    schema = pyarrow.schema([(field.name, kinds.get(field.type, pyarrow.string())) for field in fields])
    out = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist([*map(msgspec.to_builtins, rows)], schema), out)
    return out.getvalue()


def _read(file: Path, kind: type[Line], hint: str) -> list[Line]:
    try:
        found = _from_parquet(file) if file.suffix == ".parquet" else _from_csv(file)
        # An empty cell is the default. Without a default, it is an error.
        filled = [{name: value for name, value in row.items() if value not in (None, "")} for row in found]
        return msgspec.convert(filled, list[kind], strict=False)  # type: ignore[valid-type]  # a type at run time
    except (OSError, ValueError, csv.Error) as error:  # msgspec's and pyarrow's are ValueErrors
        raise DataError(f"{file} cannot be read as a table of results: {error}.", hint=hint) from None


def _from_csv(file: Path) -> list[dict[str, Any]]:
    text = storage.read_bounded(file, 1 << 28).decode()
    return [*csv.DictReader(text.splitlines(keepends=True))]


def _from_parquet(file: Path) -> list[dict[str, Any]]:
    if find_spec("pyarrow") is None:
        raise MissingExtraError.of(str(file), "pyarrow", "zoo-vision[data]")
    from pyarrow import parquet

    storage.open_regular(file).close()
    rows: list[dict[str, Any]] = parquet.read_table(file).to_pylist()
    return rows


# ---- two tables compared ----------------------------------------------------------------------------

Verdict = Literal["better", "worse", "same", "unclear", "failed", "new", "other images"]


class Change(msgspec.Struct, frozen=True):
    """A row beside the earlier one of the same subject, if there is one.

    With the same weights on the same images, ``worse`` and ``better`` mean other counts than rounding explains. With
    other weights they mean that Fisher's exact test of two samples finds a difference: ``p`` below 5%, corrected by
    Holm's method for the number of such rows. Otherwise equal counts are the ``same``, others ``unclear``: stored
    outputs, which ``zoo results compare`` pairs, tell more. ``failed`` means that there was a result and now there is
    none; ``other images`` that the fingerprints differ, so that the scores cannot be compared. ``method`` is how it was
    decided.
    """

    verdict: Verdict
    row: Row
    before: Row | None
    method: str = ""
    p: float | None = None

    @property
    def is_regression(self) -> bool:
        return self.verdict in ("worse", "failed")


def compare(rows: Sequence[Row], old: Sequence[Row]) -> list[Change]:
    """Returns a change for each of ``rows``; rows of ``old`` alone are left out, since the list of jobs does not name
    them.

    Raises :class:`DataError` if ``old`` has two rows of one subject.
    """
    counts = Counter(row.subject for row in old)
    if twice := [row for row in old if counts[row.subject] > 1]:
        about = " ".join(filter(None, (twice[0].task, twice[0].weights, twice[0].data, twice[0].setting)))
        raise DataError(f"The earlier table has {counts[twice[0].subject]} rows of {about}.", hint="Leave one of them.")
    before = {row.subject: row for row in old if row.status == "done"}
    changes = [_change(row, before.get(row.subject)) for row in rows]
    tested = [number for number, change in enumerate(changes) if change.p is not None]
    for number, p in zip(tested, holm([changes[number].p or 0.0 for number in tested]), strict=True):
        changes[number] = _decided(changes[number], p, len(tested))
    return changes


def _change(row: Row, before: Row | None) -> Change:
    """Compares two rows; the verdict on what has a p-value is left to :func:`_decided`."""
    if before is None:
        return Change("new", row, None)
    if row.status != "done":
        return Change("failed", row, before)
    if row.fingerprint != before.fingerprint:
        return Change("other images", row, before)
    if row.correct is None or before.correct is None or row.n is None or before.n is None:
        return Change("same", row, before)  # a task without counts
    if row.sha256 and row.sha256 == before.sha256:
        difference = row.correct - before.correct
        close = max(row.close or 0, before.close or 0)
        verdict: Verdict = "same" if abs(difference) <= close else "worse" if difference < 0 else "better"
        return Change(verdict, row, before, "counts, the same weights on the same images")
    p = fisher((row.correct, row.n), (before.correct, before.n))
    return Change("unclear", row, before, "Fisher's exact test of two samples", p)


def _decided(change: Change, p: float, tests: int) -> Change:
    row, before = change.row, change.before
    assert before is not None
    difference = (row.correct or 0) - (before.correct or 0)
    verdict: Verdict = "same" if difference == 0 else "unclear"
    if p < LEVEL:
        verdict = "worse" if difference < 0 else "better"
    method = change.method + (f", corrected for {tests} rows by Holm" if tests > 1 else "")
    return Change(verdict, row, before, method, p)
