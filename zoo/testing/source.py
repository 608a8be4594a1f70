"""Rows of models in a plugin's source code: where they are, and numbers in them changed in place."""

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from zoo.registry import PluginRow


class Row(NamedTuple):
    """The call that makes a model's row."""

    file: Path
    call: ast.Call


def files_of(row: PluginRow) -> list[Path]:
    """The Python files of the plugin's package, the module of its entry point first."""
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
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            name = node.args[0] if node.args else given.get("name")
            is_row = ast.unparse(node.func).rpartition(".")[2] == "Model" or "params" in given
            if is_row and isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield name.value, Row(file, node)


def model_at(file: Path, line: int) -> str:
    """The model whose row includes this line; empty if there is none."""
    found = [(row.call.lineno, name) for name, row in rows(file) if _spans(row.call, line)]
    return max(found)[1] if found else ""  # the innermost


def field_at(file: Path, line: int) -> str:
    """The field of a row that includes this line, such as ``preprocess``; empty if there is none."""
    for _, row in rows(file):
        for keyword in row.call.keywords:
            if _spans(keyword.value, line):
                return keyword.arg or ""
    return ""


def changed(row: Row, numbers: Mapping[str, int]) -> str | None:
    """The text of the row's file with other ``numbers`` in its keywords; None if one is not a plain number there."""
    content = row.file.read_bytes()
    lines = content.splitlines(keepends=True)

    def place(line: int, column: int) -> int:
        return sum(map(len, lines[: line - 1])) + column

    edits = []
    given = {keyword.arg: keyword.value for keyword in row.call.keywords}
    for field, number in numbers.items():
        if (value := given.get(field)) is None:
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
