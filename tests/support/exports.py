"""Exports of small networks, made once for all tests of a process."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

import zoo
from zoo_export import formats
from zoo_export.by_name import Export

NETWORK = "resnet20.digits"
FORMATS = ["onnx", "torch-export"]


def needs(format: str) -> None:
    """Skips the test if a library for ``format`` is not installed."""
    for library in ("onnxruntime", "onnxscript") if format == "onnx" else ():
        pytest.importorskip(library, reason="needs zoo-vision[export]")


@cache
def made(root: Path, format: formats.Format, **options: Any) -> Export:
    """Returns the export of :data:`NETWORK`, in a folder below ``root``."""
    needs(format)
    folder = Path(mkdtemp(dir=root))
    return zoo.export(NETWORK, folder / f"network{formats.SUFFIXES[format]}", **options)
