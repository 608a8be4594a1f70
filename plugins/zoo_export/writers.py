"""Writes graphs, each format with its own exporter."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from zoo.errors import ExportError, MissingExtraError
from zoo.exported.about import About
from zoo.exported.formats import KEY
from zoo_export import int8
from zoo_export.graph import EXTRA, INPUT, OUTPUT, Graph, first_line


def write(graph: Graph, about: About, file: Path, calibration: Tensor | None) -> tuple[About, list[str]]:
    """Writes ``graph`` to ``file``, in the format and with the description ``about``; ``calibration`` is for int8.

    Returns the description as it turned out, and remarks. Raises :class:`ExportError`, :class:`MissingExtraError`.
    """
    example = graph.example(about.preprocess.input_size)
    notes: list[str] = []
    with quiet():
        if about.format == "torch-export":
            exported = export_program(graph, example, graph.takes_any_size(about.preprocess.input_size))
            about = msgspec.structs.replace(about, any_size=has_any_size(exported))
            torch.export.save(exported, file, extra_files={KEY: about.text()})
        else:
            notes += write_onnx(graph, example, file)
            if calibration is not None:
                int8.quantise(file, file, calibration)
            describe_onnx(file, about.text())
    return about, notes


def program(graph: Graph, example: Tensor, any_size: bool = False) -> Any:
    """The ``torch.export.ExportedProgram`` for any number of images, and if possible of ``any_size``."""
    dim = torch.export.Dim
    sizes: dict[int, Any] = {0: dim("batch", min=1)}
    if any_size:
        sizes |= {2: dim.AUTO, 3: dim.AUTO}
    return torch.export.export(graph, (example,), dynamic_shapes=(sizes,), strict=False)


def has_any_size(exported: Any) -> bool:
    [images] = [node for node in exported.graph.nodes if node.op == "placeholder" and node.name == INPUT]
    return not any(isinstance(side, int) for side in images.meta["val"].shape[2:])


def write_onnx(graph: Graph, example: Tensor, file: Path, outputs: Sequence[str] = (OUTPUT,)) -> list[str]:
    """By ``torch.onnx.export`` on ``torch.export``, or else by its older exporter, which traces: then a remark."""
    for library in ("onnx", "onnxscript"):
        if not _is_installed(library):
            raise MissingExtraError.of("Exporting to ONNX", library, EXTRA)
    named: dict[str, Any] = {"input_names": [INPUT], "output_names": [*outputs], "external_data": False}
    try:
        torch.onnx.export(program(graph, example), (example,), str(file), dynamo=True, verbose=False, **named)
        return []
    except Exception as error:  # torch raises many kinds
        reason = first_line(error)
    axes = {name: {0: "batch"} for name in (INPUT, *outputs)}
    try:
        torch.onnx.export(graph, (example,), str(file), dynamo=False, dynamic_axes=axes, **named)
    except Exception as error:
        traced = first_line(error)
        more = f"; when traced: {traced}" if traced != reason else ""
        raise ExportError(f"torch cannot export this network to ONNX: {reason}{more}") from None
    return [f"exported by tracing the network, because torch.export failed: {reason}"]


def describe_onnx(file: Path, text: str) -> None:
    import onnx

    model = onnx.load(str(file))
    onnx.helper.set_model_props(model, {KEY: text})
    onnx.save(model, str(file))


def export_program(graph: Graph, example: Tensor, any_size: bool) -> Any:
    """As :func:`program`, but for images of one size if any size is not possible."""
    try:
        return program(graph, example, any_size)
    except Exception as error:  # torch raises many kinds
        if any_size:
            return export_program(graph, example, any_size=False)
        raise ExportError(f"torch.export cannot export this network: {first_line(error)}") from None


def _is_installed(library: str) -> bool:
    import importlib

    try:
        importlib.import_module(library)
    except ImportError:
        return False
    return True


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters print, log and warn of on the way: what fails raises."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
