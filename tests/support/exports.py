"""Exports of small networks, made once for all tests of a process."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from unittest.mock import patch

import pytest

import zoo
from zoo.system import process
from zoo_export import formats
from zoo_export.by_name import Export

NETWORK = "resnet20.digits"
FORMATS = ["onnx", "torch-export"]


def here(function: str, arguments: dict[str, Any], **_: Any) -> Any:
    """Does as :func:`zoo.system.process.ask`, in this process: starting another takes seconds."""
    from importlib import import_module

    module, _, name = function.partition(":")
    return getattr(import_module(module), name)(**arguments)


def export(model: Any, file: Path, **options: Any) -> Export:
    """Exports as :func:`zoo.export`, without a process of its own for the comparison."""
    with patch.object(process, "ask", here):
        return zoo.export(model, file, **options)


def needs(format: str) -> None:
    """Skips the test if a library for ``format`` is not installed."""
    for library in ("onnxruntime", "onnxscript") if format == "onnx" else ():
        pytest.importorskip(library, reason="needs zoo-vision[export]")


@cache
def made(root: Path, format: formats.Format, **options: Any) -> Export:
    """Returns the export of :data:`NETWORK`, in a folder below ``root``."""
    needs(format)
    folder = Path(mkdtemp(dir=root))
    return export(NETWORK, folder / f"network{formats.SUFFIXES[format]}", **options)
