"""The formats of exported files, and what a file says about itself: in its metadata, and in the JSON beside it."""

from pathlib import Path
from typing import Literal, get_args

import msgspec

from zoo.errors import FileFormatError, SpecError
from zoo.spec import Preprocess
from zoo.system import storage

Format = Literal["onnx", "torch-export"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch-export": ".pt2"}

INSTEAD = {
    "openvino": "Export to onnx: OpenVINO reads ONNX files (openvino.Core().compile_model('FILE.onnx')).",
    "torchscript": "Export to torch-export: torch deprecates TorchScript.",
}
"""Formats that are not written, and what to do instead."""

KEY = "zoo.json"
"""The name, in the metadata of a file, of the text that describes it (:class:`About`)."""


Precision = Literal["float32", "float16", "int8"]
Input = Literal["uint8", "float32", "normalised"]


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The images on which the ranges of an int8 network were measured."""

    data: str
    split: str
    n: int
    seed: int
    fingerprint: str


class Agreement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The distance of a file's outputs from those of the network in torch.

    ``difference`` is the largest over ``images`` images, relative to the largest output. Each image was run alone and
    in one batch of all. ``same_class`` counts those with the same largest output.
    """

    images: int
    batches: tuple[int, ...]
    difference: float
    tolerance: float
    same_class: int
    runtime: str

    def __str__(self) -> str:
        return (
            f"{self.images} images in batches of {' and '.join(map(str, self.batches))} differ from torch by at most "
            f"{self.difference:.1e} of the largest output in {self.runtime} (allowed: {self.tolerance:g}); "
            f"{self.same_class} have the same class"
        )


class About(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The description of an exported file.

    ``input`` is what the file takes, B C H W of ``preprocess.input_size``: ``uint8`` pixels, their values as
    ``float32`` in [0, 1], or values that are already ``normalised`` by mean and std. Resizing and cropping, as
    ``preprocess`` states them, are always up to the caller. ``any_size`` says that height and width may be others.
    ``weights`` and ``sha256`` name the weights that were exported, ``source`` says where they are from. ``passes`` are
    the export passes that changed the network. ``distribution`` and ``distribution_version`` say what has the model.
    """

    format: Format
    precision: Precision
    input: Input
    model: str
    num_classes: int
    preprocess: Preprocess
    weights: str = ""
    sha256: str = ""
    source: str = ""
    classes: str = ""
    class_names: tuple[str, ...] = ()
    any_size: bool = False
    calibration: Calibration | None = None
    passes: tuple[str, ...] = ()
    distribution: str = ""
    distribution_version: str = ""
    zoo: str = ""

    def text(self) -> str:
        return msgspec.json.encode(self).decode()


class Sidecar(msgspec.Struct, frozen=True):
    """The JSON file beside an export: its description, its hashes, and how far it is from torch."""

    about: About
    sha256: dict[str, str]
    agreement: Agreement


def of_file(file: Path) -> Format:
    """Returns the format of a file of this name; raises :class:`SpecError` for another suffix."""
    for format, suffix in SUFFIXES.items():
        if file.suffix == suffix:
            return format
    expected = ", ".join(f"{suffix} ({format})" for format, suffix in SUFFIXES.items())
    raise SpecError(f"{file}: the suffix {file.suffix!r} names no format.", hint=f"Expected one of {expected}.")


def of(name: str, file: Path | None) -> Format:
    """Returns the format ``name``, or that of ``file``; raises :class:`SpecError` if they differ or are missing."""
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
    """Returns the description beside ``file``: ``resnet20.onnx.json``."""
    return file.with_name(f"{file.name}.json")


_LARGEST = 1 << 26
"""Bytes of a description beside a file, at most."""


def read_sidecar(file: Path) -> Sidecar | None:
    """Returns the description beside ``file``, None if there is none; raises :class:`FileFormatError` for another."""
    place = sidecar(file)
    try:
        return msgspec.json.decode(storage.read_bounded(place, _LARGEST), type=Sidecar)
    except FileNotFoundError:
        return None
    except (OSError, RecursionError, msgspec.MsgspecError) as error:
        raise FileFormatError(f"{place}: not a description of {file.name}: {error}", hint="Remove it.") from None


def write_sidecar(file: Path, described: Sidecar) -> None:
    """Writes the description beside ``file``."""
    storage.replace(sidecar(file), msgspec.json.format(msgspec.json.encode(described), indent=2) + b"\n")


def about_of(file: Path) -> About | None:
    """Returns the description in the JSON beside ``file``; None unless both are there and it is valid."""
    try:
        stated = read_sidecar(file) if file.is_file() else None
    except FileFormatError:
        return None
    return stated.about if stated is not None else None


def read_about(text: str | None, file: Path) -> About:
    """Returns the description in the metadata ``text`` of ``file``; raises :class:`FileFormatError` without one."""
    if not text:
        raise FileFormatError(
            f"{file}: the file does not state how its input is prepared, since zoo export did not write it.",
            hint=f"zoo convert {file} MODEL -o OUT.safetensors makes weights of it, if it is ONNX. "
            "zoo export writes files that state it.",
        )
    try:
        return msgspec.json.decode(text, type=About)
    except msgspec.MsgspecError as error:
        hint = "Export the weights again with this version of Zoo."
        raise FileFormatError(f"{file}: its description is not valid: {error}", hint=hint) from None
