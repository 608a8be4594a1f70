"""Docstrings say what a function does. Ruff checks their form."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VERB = re.compile(r"(?!(?:As|Its|This|Means) )[A-Z][a-z-]*s\b")
"""A verb in the third person: what a docstring of a function begins with."""

VALUES = ("property", "command", "group", "fixture")
"""Decorators of functions that are values, or whose docstring is a help text in the imperative."""


def without_a_verb(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = " ".join(map(ast.unparse, node.decorator_list))
            docstring = ast.get_docstring(node)
            is_exempt = node.name.startswith("test_") or any(word in decorators for word in VALUES)
            if docstring and not is_exempt and not VERB.match(docstring):
                yield f"{file.relative_to(ROOT)}:{node.lineno}: {docstring.splitlines()[0]}"


def values(file: Path) -> Iterator[tuple[int, str]]:
    """Yields line and docstring of the module, of its classes, and of names that are bound to a value."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef):
            yield getattr(node, "lineno", 1), ast.get_docstring(node) or ""
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


@pytest.mark.parametrize("folder", ["zoo", "plugins"])
def test_docstrings_of_values_begin_with_their_noun(folder: str) -> None:
    begins_otherwise = re.compile(r"(Of|What|How|By|From|With|As|Those|Whose|Where|Within|For|In|Beside) ")
    found = [
        f"{file.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for file in sorted((ROOT / folder).rglob("*.py"))
        for line, text in values(file)
        if begins_otherwise.match(text)
    ]
    assert found == []


@pytest.mark.parametrize("folder", ["zoo", "plugins", "docs", "benchmarks", "tests"])
def test_docstrings_of_functions_begin_with_a_verb(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    assert [line for file in files for line in without_a_verb(file)] == []
