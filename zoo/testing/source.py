"""The text of a plugin's rows: where a field is written, and the counts that are written there."""

import ast
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from zoo import registry
from zoo.errors import PluginError
from zoo.registry import PluginRow
from zoo.system import storage
from zoo.testing import shapes
from zoo.testing.subject import Subject


class Row(NamedTuple):
    """The call that makes a model's row."""

    file: Path
    call: ast.Call


def files_of(row: PluginRow) -> list[Path]:
    """Returns the Python files of the plugin's package, the module of its entry point first."""
    try:
        spec = importlib.util.find_spec(row.module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin:
        return []
    module = Path(spec.origin)
    others = sorted(module.parent.rglob("*.py")) if module.name == "__init__.py" else []
    return [module, *(file for file in others if file != module)]


def rows(file: Path) -> Iterator[tuple[str, Row]]:
    """Names and rows in ``file``: calls of ``Model``, and of functions that take a model's name and ``params``."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            name = node.args[0] if node.args else keywords.get("name")
            is_row = ast.unparse(node.func).rpartition(".")[2] == "Model" or "params" in keywords
            if is_row and isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield name.value, Row(file, node)


def model_at(file: Path, line: int) -> str:
    """Returns the model whose row includes this line; empty if there is none."""
    found = [(row.call.lineno, name) for name, row in rows(file) if _spans(row.call, line)]
    return max(found)[1] if found else ""  # the innermost


def field_at(file: Path, line: int) -> str:
    """Returns the field of a row that includes this line, such as ``preprocess``; empty if there is none."""
    for _, row in rows(file):
        for keyword in row.call.keywords:
            if _spans(keyword.value, line):
                return keyword.arg or ""
    return ""


def changed(row: Row, numbers: Mapping[str, int]) -> str | None:
    """Returns the text of the row's file with other ``numbers`` in its keywords; None if one is not a plain number
    there.
    """
    content = row.file.read_bytes()
    lines = content.splitlines(keepends=True)

    def place(line: int, column: int) -> int:
        return sum(map(len, lines[: line - 1])) + column

    edits = []
    keywords = {keyword.arg: keyword.value for keyword in row.call.keywords}
    for field, number in numbers.items():
        if (value := keywords.get(field)) is None:
            before = next(keyword for keyword in row.call.keywords if keyword.arg in ("params", "build"))
            end = place(before.value.end_lineno or 0, before.value.end_col_offset or 0)
            gap = "\n" + " " * before.col_offset if before.lineno > row.call.lineno else " "
            edits.append((end, end, f",{gap}{field}={number:_}"))
        elif isinstance(value, ast.Constant) and type(value.value) is int:
            start = place(value.lineno, value.col_offset)
            edits.append((start, place(value.end_lineno or 0, value.end_col_offset or 0), f"{number:_}"))
        else:
            return None
    for start, end, text in sorted(edits, reverse=True):
        content = content[:start] + text.encode() + content[end:]
    return content.decode()


def _spans(node: ast.expr, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)


class Change(msgspec.Struct, frozen=True):
    """One number of a row."""

    model: str
    field: str
    old: int
    new: int
    file: Path
    line: int


def fix(plugin: str) -> list[Change]:
    """Writes the right ``params`` and ``macs`` into the source code of a plugin's rows; returns what was changed.

    Raises :class:`PluginError` if the plugin cannot be used, or if a number is not written in its source as such.
    """
    row = next((row for row in registry.current().plugins if row.name == plugin and row.plugin), None)
    if row is None or row.plugin is None:
        raise PluginError(f"Plugin {plugin!r} cannot be used.", hint=f"zoo plugins check {plugin} says why.")
    changes = []
    for model in row.plugin.models:
        subject = Subject(plugin, model)
        try:
            counted = {"params": shapes.count_params(subject), "macs": shapes.count_macs(subject)}
        except Exception as error:  # a plugin's code may raise anything
            raise PluginError(
                f"{model.name}: params and macs cannot be counted: {type(error).__name__}: {error}"
            ) from error
        wrong = {field: count for field, count in counted.items() if count != getattr(model, field)}
        if wrong:
            changes += _write(row, model.name, wrong, {field: getattr(model, field) for field in wrong})
    if changes:
        _forget(row)
    return changes


def _write(row: PluginRow, model: str, numbers: dict[str, int], old: dict[str, int]) -> list[Change]:
    matching = [match for file in files_of(row) for name, match in rows(file) if name == model]
    text = changed(matching[0], numbers) if len(matching) == 1 else None
    if text is None:
        written = ", ".join(f"{field}={number:_}" for field, number in numbers.items())
        raise PluginError(
            f"{model}: the row of this model is not written out in {row.module}, so that --fix cannot change it.",
            hint=f"Its numbers are {written}.",
        )
    file, line = matching[0].file, matching[0].call.lineno
    storage.replace(file, text.encode())
    return [Change(model, field, old[field], number, file, line) for field, number in numbers.items()]


def _forget(row: PluginRow) -> None:
    """Lets the next use of the registry import the changed source."""
    package = row.module.partition(".")[0]
    for file in files_of(row):  # a change within a second could go unnoticed
        Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]
    registry.clear()
