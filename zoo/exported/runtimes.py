"""Opens exported files, each format in its runtime."""

import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from zoo.errors import FileFormatError
from zoo.exported import about
from zoo.exported.about import About
from zoo.exported.formats import KEY, Format
from zoo.loading import onnx_session

Run = Callable[[Tensor], Tensor]
"""Outputs for a batch of inputs, both on the CPU."""


def open_onnx(file: Path) -> tuple[About, Run]:
    session = onnx_session.start(file, str(file), what=f"Running {file.name}", extra="zoo-vision[export]")
    described = about.read(session.get_modelmeta().custom_metadata_map.get(KEY), file)
    output = session.get_outputs()[0].name
    return described, lambda images: onnx_session.run(session, output, images, str(file))


def open_torch_export(file: Path) -> tuple[About, Run]:
    described = _described_in_archive(file)
    with _blaming(file):
        module = torch.export.load(file).module()
    return described, module


LONGEST = 1 << 24
"""Bytes of a description, at most: a thousand classes take 20 kB."""

OPENERS: dict[Format, Callable[[Path], tuple[About, Run]]] = {
    "onnx": open_onnx,
    "torch-export": open_torch_export,
}
"""By format: the description of a file and the function that it computes.

Raise :class:`FileFormatError` for a damaged file and for one that does not describe itself, and
:class:`zoo.errors.MissingExtraError`.
"""


def _described_in_archive(file: Path) -> About:
    """The description in a file of torch's, which is a zip archive: read before torch runs what else is in it."""
    try:
        with zipfile.ZipFile(file) as archive:
            found = [entry for entry in archive.infolist() if entry.filename.endswith(f"/{KEY}")]
            is_small = bool(found) and found[0].file_size <= LONGEST
            text = archive.read(found[0]).decode() if is_small else None
    except (zipfile.BadZipFile, UnicodeDecodeError, EOFError, NotImplementedError) as error:
        raise FileFormatError(f"{file}: damaged: {error}") from None
    return about.read(text, file)


@contextmanager
def _blaming(file: Path) -> Iterator[None]:
    """Within it, a runtime's exceptions become errors that name ``file``, and its warnings are not shown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # the runtimes raise many kinds at damaged files
        reason = str(error).strip().partition("\n")[0]
        raise FileFormatError(f"{file}: damaged: {type(error).__name__}: {reason}") from None
