"""Tables of results as files: CSV, and Parquet if pyarrow is installed."""

import csv
import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from zoo.errors import DataError, MissingExtraError
from zoo.results.rows import Row, Speed
from zoo.system import storage

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
    """The rows of a table of results, a CSV or Parquet file.

    Raises:
        DataError: The file is not such a table.
        MissingExtraError: pyarrow, which reads Parquet, is not installed.
    """
    file = Path(file)
    return _read(file, Row, "zoo bulk evaluate PATTERN -o DIR writes one: DIR/results.csv")


def read_speed(file: str | Path) -> list[Speed]:
    """The rows of ``speed.csv``; raises :class:`DataError` for another file."""
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
    with file.open(encoding="utf-8", newline="") as stream:
        return [*csv.DictReader(stream)]


def _from_parquet(file: Path) -> list[dict[str, Any]]:
    if find_spec("pyarrow") is None:
        raise MissingExtraError.of(str(file), "pyarrow", "zoo-vision[data]")
    from pyarrow import parquet

    rows: list[dict[str, Any]] = parquet.read_table(file).to_pylist()
    return rows
