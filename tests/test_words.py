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


@pytest.mark.parametrize("folder", ["zoo", "plugins", "docs", "benchmarks", "tests"])
def test_docstrings_of_functions_begin_with_a_verb(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    assert [line for file in files for line in without_a_verb(file)] == []
