"""Writes docs/python.md, which names every public function: ``python docs/reference.py``.

The site makes its text from the docstrings. A test checks that the page is up to date.
"""

import inspect
import types
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "python.md"

PACKAGES = (
    "zoo.data",
    "zoo.look",
    "zoo.attack",
    "zoo.training",
    "zoo.evaluation",
    "zoo.registry",
    "zoo.spec",
    "zoo.modules",
    "zoo.testing",
)
"""Public packages, each a section; ``zoo`` itself comes first."""

HEAD = """# Python

`import zoo` is enough for every function on this page, and imports no torch. Exceptions are in `zoo.errors`; all derive
from `zoo.ZooError`, whose `hint` says what to do.

<!-- `python docs/reference.py` writes this page. -->
"""


def members(package: types.ModuleType) -> Iterator[tuple[str, Any]]:
    """The public functions and classes of ``package``, by name."""
    for name in sorted(package.__all__):
        value = getattr(package, name)
        if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__.startswith("zoo."):
            yield name, value


def render() -> str:
    """The page."""
    lines, seen = [HEAD], set()
    for package in map(import_module, ("zoo", *PACKAGES)):
        found = [(name, value) for name, value in members(package) if value not in seen]
        seen |= {value for _, value in found}
        if found:
            lines.append(f"## {package.__name__}\n")
            lines += [f"::: {value.__module__}.{value.__qualname__}\n" for _, value in found]
    lines += ["## Errors\n", "::: zoo.errors\n"]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
