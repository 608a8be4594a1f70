"""Opens and runs an exported file: what :mod:`zoo_export.network` asks for in a sandbox.

An ONNX file is native code's input. A file of torch's is more: torch unpickles some of its members, and evaluates
texts in it as Python. :func:`check_archive` refuses both, so that what is left can be read as data.
"""

import json
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from zoo.errors import FileFormatError
from zoo.loading import onnx_session
from zoo_export.formats import KEY, Format, read_about

Run = Callable[[Tensor], Tensor]
"""Outputs for a batch of inputs, both on the CPU."""

_opened: list[Run] = []


def open_here(*, file: str, format: Format, threads: int) -> str:
    """Opens ``file``; returns its description, for :func:`zoo_export.formats.read_about`.

    Raises :class:`FileFormatError` for a damaged or hostile file and for one that does not describe itself, and
    :class:`zoo.errors.MissingExtraError`.
    """
    torch.set_num_threads(threads)
    described, run = OPENERS[format](Path(file))
    _opened[:] = [run]
    return described


def run_here(*, images: str, outputs: str) -> None:
    """Runs the open file on the tensor in the file ``images``, and writes its answer to ``outputs``."""
    with torch.no_grad():
        output = _opened[0](safetensors.torch.load_file(images)["images"])
    if not isinstance(output, Tensor):
        raise FileFormatError(f"it returns {type(output).__name__}, expected one tensor.")
    safetensors.torch.save_file({"outputs": output.float().contiguous()}, outputs)


def open_onnx(file: Path) -> tuple[str, Run]:
    session = onnx_session.start(file, str(file), what=f"Running {file.name}", extra="zoo-vision[export]")
    text = session.get_modelmeta().custom_metadata_map.get(KEY) or ""
    read_about(text, file)
    output = session.get_outputs()[0].name
    return text, lambda images: onnx_session.run(session, output, images, str(file))


def open_torch_export(file: Path) -> tuple[str, Run]:
    text = check_archive(file)
    with suppress(ImportError):
        import torchvision  # noqa: F401  # whose operators a graph may call
    with _blaming(file):
        module = torch.export.load(file).module()
    return text, module.__call__  # a function: eval() does not change an exported module, it raises


OPENERS: dict[Format, Callable[[Path], tuple[str, Run]]] = {
    "onnx": open_onnx,
    "torch-export": open_torch_export,
}
"""Readers by format: the description of a file and the function that it computes."""


# ---- torch's archives: only data ---------------------------------------------------------------------------------

LONGEST = 1 << 24
"""Bytes of a description, at most: a thousand classes take 20 kB."""

_LONGEST_PROGRAM = 1 << 27

_MEMBERS = re.compile(
    r"""[^/]+/(
        archive_format | archive_version | byteorder | version | \.data/\w+ | \.format_version | extra/zoo\.json
        | models/model\.json | data/sample_inputs/model\.pt
        | data/weights/(weight_\d+ | model_weights_config\.json)
        | data/constants/(tensor_\d+ | model_constants_config\.json)
    )""",
    re.VERBOSE,
)
"""The members of an archive that ``zoo export`` writes. Others may be pickles, or libraries of compiled code."""

_TARGET = re.compile(
    r"torch\.ops\.(aten|torchvision)\.(?!from_file)\w+(\.\w+)?|torch\.ops\.higher_order\.wrap_with_(autocast|set_grad_enabled)|torch\.sym_\w+"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem)"
    r"|math\.(ceil|floor|trunc|sqrt)"
)
"""The functions that a graph may call: torch follows any other name through its own modules."""

_EXPRESSION = re.compile(
    r"(Symbol\('[a-z]+[0-9]+'|L\['\w+'\]\.size\(\)\[[0-9]+\]|[A-Z][A-Za-z]*(?![A-Za-z'])|[a-z]+[0-9]+\b"
    r"|\b(positive|integer|nonnegative|negative|real|nonzero|finite|and|or|not|oo|max|min|abs)\b"
    r"|[0-9]+(\.[0-9]+)?|[-+*/(),=<>!&|% ])*"
)
"""The texts that torch evaluates as Python: sizes and what must hold of them. Functions have capital letters there,
but for max, min and abs; those of Python that do anything have none."""


def check_archive(file: Path) -> str:
    """Returns the description in a file of torch's, a zip archive; raises :class:`FileFormatError` if it holds more
    than data, before torch reads it."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            described = [entry for name, entry in entries.items() if name.endswith(f"/{KEY}")]
            is_small = bool(described) and described[0].file_size <= LONGEST
            text = archive.read(described[0]).decode() if is_small else ""
            read_about(text, file)
            for name, entry in entries.items():
                if not _MEMBERS.fullmatch(name):
                    raise _unsafe(file, f"it holds {name!r}")
                if name.endswith("/model.pt") and entry.file_size:
                    raise _unsafe(file, "its sample inputs are a pickle")
                if name.endswith(".json") and entry is not described[0]:
                    if entry.file_size > _LONGEST_PROGRAM:
                        raise _unsafe(file, f"{name} has {entry.file_size:,} bytes")
                    _check_json(json.loads(archive.read(entry)), file)
    except (zipfile.BadZipFile, ValueError, RecursionError, EOFError, OSError, NotImplementedError) as error:
        raise FileFormatError(f"{file}: damaged: {error}") from None
    return text


def _check_json(content: Any, file: Path) -> None:
    """Raises unless all that torch would evaluate, call or unpickle is harmless."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        if not isinstance(value, dict):
            continue
        waiting += value.values()
        if value.get("use_pickle"):
            raise _unsafe(file, "a tensor is a pickle")
        if "inputs" in value and "target" in value and not _TARGET.fullmatch(str(value["target"])):
            raise _unsafe(file, f"its graph calls {str(value['target'])[:100]!r}")
        guards = value.get("guards_code") or []
        for text in [value.get("expr_str") or "", *(guards if isinstance(guards, list) else [guards])]:
            if not _EXPRESSION.fullmatch(str(text)):
                raise _unsafe(file, f"{str(text)[:100]!r} is no size")


def _unsafe(file: Path, reason: str) -> FileFormatError:
    return FileFormatError(
        f"{file}: not opened, since torch could run code from it: {reason}.",
        hint="Export the weights again: zoo export NAME -o FILE.pt2 writes a file without.",
    )


@contextmanager
def _blaming(file: Path) -> Iterator[None]:
    """Makes a runtime's exceptions within it errors that name ``file``; its warnings are not shown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # the runtimes raise many kinds at damaged files
        reason = str(error).strip().partition("\n")[0]
        raise FileFormatError(f"{file}: damaged: {type(error).__name__}: {reason}") from None
