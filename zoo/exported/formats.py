"""The formats of exported networks, by the suffix of their file."""

import re
from pathlib import Path
from typing import Literal, get_args

from zoo import names
from zoo.errors import SpecError, UnknownNameError

Format = Literal["onnx", "torch-export"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch-export": ".pt2"}

INSTEAD = {
    "openvino": "Export to onnx: OpenVINO reads ONNX files (openvino.Core().compile_model('FILE.onnx')).",
    "torchscript": "Export to torch-export: torch deprecates TorchScript.",
}
"""Formats that are not written, and what to do instead."""

KEY = "zoo.json"
"""The name, in the metadata of a file, of the text that describes it (:class:`zoo.exported.about.About`)."""


def is_file(name: str | Path) -> bool:
    """Whether ``name`` means an exported file rather than a model: ``resnet20.onnx`` could be either."""
    text = str(name)
    if Path(text).suffix not in SUFFIXES.values() or names.is_repository(text):
        return False
    try:
        names.parse(text)
    except UnknownNameError:
        return True
    return Path(text).is_file()


def of_file(file: Path) -> Format:
    """The format of a file of this name; raises :class:`SpecError` for another suffix."""
    for format, suffix in SUFFIXES.items():
        if file.suffix == suffix:
            return format
    expected = ", ".join(f"{suffix} ({format})" for format, suffix in SUFFIXES.items())
    raise SpecError(f"{file}: the suffix {file.suffix!r} names no format.", hint=f"Expected one of {expected}.")


def of(name: str, file: Path | None) -> Format:
    """The format ``name``, or that of ``file``; raises :class:`SpecError` if they differ or both are missing."""
    if not name:
        if file is None:
            raise SpecError("No format.", hint=f"Set --format to one of {', '.join(FORMATS)}, or -o FILE.onnx.")
        return of_file(file)
    for format in FORMATS:
        if format == name:
            if file is not None and file.suffix != SUFFIXES[format]:
                hint = f"Write it to {file.with_suffix(SUFFIXES[format])}."
                raise SpecError(f"{file}: a file in the format {name} ends in {SUFFIXES[format]}.", hint=hint)
            return format
    raise SpecError(f"format = {name!r}: expected one of {', '.join(FORMATS)}.", hint=INSTEAD.get(name, ""))


def sidecar(file: Path) -> Path:
    """The description beside ``file``: ``resnet20.onnx.json``."""
    return file.with_name(f"{file.name}.json")


def safe_stem(name: str) -> str:
    """A file name, without suffix, for the weights ``name``."""
    return re.sub(r"[^\w.-]+", "_", name)
