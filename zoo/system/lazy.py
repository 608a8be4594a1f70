"""Packages whose public names are imported on first use, so that importing the package is fast."""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def exports(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Returns the ``__getattr__``, ``__dir__`` and ``__all__`` of ``package``, from its stub, ``__init__.pyi``.

    Type checkers read the same stub. A line is ``from zoo.spec import Model as Model``, or ``from zoo import hub as
    hub`` for a module; one with a comment is for type checkers alone. ``__all__`` has the names above the first blank
    line; those below it can be used, too.
    """
    module = sys.modules[package]
    with open(f"{module.__path__[0]}/__init__.pyi", encoding="utf-8") as file:
        stub = file.read()
    homes, names = _homes(stub), list(_homes(stub.partition("\n\n")[0]))

    def bind(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = homes[name]
        value = import_module(f"{package}.{name}") if home == package else getattr(import_module(home), name)
        setattr(module, name, value)
        return value

    return bind, lambda: names, names


def _homes(stub: str) -> dict[str, str]:
    """Returns the module of each name: of ``from home import name as name``, six words."""
    lines = (line.split() for line in stub.splitlines())
    return {words[3]: words[1] for words in lines if len(words) == 6}
