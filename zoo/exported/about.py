"""What an exported file says about itself, in its metadata and in the JSON file beside it."""

from pathlib import Path
from typing import Literal

import msgspec

from zoo.errors import FileFormatError
from zoo.exported.formats import Format
from zoo.spec import Preprocess

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
    """How far a file's outputs are from those of the network in torch.

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


def read(text: str | None, file: Path) -> About:
    """The description in the metadata ``text`` of ``file``; raises :class:`FileFormatError` if there is none."""
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
