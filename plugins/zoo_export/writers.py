"""Writes graphs, each format with its own exporter, int8 after measuring ranges on training images."""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from zoo import data
from zoo.data.preprocess import Transform
from zoo.errors import DataError, ExportError, MissingExtraError, ZooError
from zoo.loading.create import as_network, info_of
from zoo.modules.features import Taps
from zoo.system import storage
from zoo_export import rounding
from zoo_export.formats import KEY, About, Calibration
from zoo_export.graph import EXTRA, INPUT, OUTPUT, Graph, first_line, on_cpu
from zoo_export.network import as_taken


def write(graph: Graph, about: About, file: Path, calibration: Tensor | None) -> tuple[About, list[str]]:
    """Writes ``graph`` to ``file``, in the format and with the description ``about``; ``calibration`` is for int8.

    Returns the description as it turned out, and remarks. Raises :class:`ExportError`, :class:`MissingExtraError`.
    """
    example = graph.example(about.preprocess.input_size)
    notes: list[str] = []
    with quiet():
        if about.format == "torch-export":
            exported, notes = export_program(graph, example, graph.takes_any_size(about.preprocess.input_size))
            about = msgspec.structs.replace(about, any_size=has_any_size(exported))
            written = io.BytesIO()  # on a full disk torch's own writer says nothing but addresses
            torch.export.save(exported, written, extra_files={KEY: about.text()})
            storage.replace(file, written.getvalue())
        else:
            notes += write_onnx(graph, example, file)
            if calibration is not None:
                quantize(file, file, calibration)
            describe_onnx(file, about.text())
    return about, notes


def program(graph: Graph, example: Tensor, any_size: bool = False) -> Any:
    """Returns the ``torch.export.ExportedProgram`` for any number of images, and if possible of ``any_size``."""
    dim = torch.export.Dim
    sizes: dict[int, Any] = {0: dim("batch", min=1)}
    if any_size:
        sizes |= {2: dim.AUTO, 3: dim.AUTO}
    return torch.export.export(graph, (example,), dynamic_shapes=(sizes,), strict=False)


def has_any_size(exported: Any) -> bool:
    [images] = [node for node in exported.graph.nodes if node.op == "placeholder" and node.name == INPUT]
    return not any(isinstance(side, int) for side in images.meta["val"].shape[2:])


def write_onnx(graph: Graph, example: Tensor, file: Path, outputs: Sequence[str] = (OUTPUT,)) -> list[str]:
    """Writes by ``torch.onnx.export`` on ``torch.export``, or else by the older exporter, which traces: a remark."""
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
    """Adds the description, calls the images' number ``batch``, and leaves out operator sets that no node uses."""
    import onnx

    model = onnx.load(str(file))
    onnx.helper.set_model_props(model, {KEY: text})
    graph = model.graph
    number = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if number and dim.dim_param:  # also within a product, as "16*s34"
                dim.dim_param = re.sub(rf"\b{re.escape(number)}\b", "batch", dim.dim_param)
    used = _domains(graph).union(*(_domains(function) for function in model.functions))
    operator_sets = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(operator_sets)
    onnx.save(model, str(file))


def _domains(graph: Any) -> set[str]:
    """Returns the domains of the operators in an ONNX graph, and in the graphs within it."""
    domains = set()
    for node in graph.node:
        domains.add("" if node.domain == "ai.onnx" else node.domain)
        for attribute in node.attribute:
            for inner in (*attribute.graphs, attribute.g):
                domains |= _domains(inner)
    return domains


def export_program(graph: Graph, example: Tensor, any_size: bool) -> tuple[Any, list[str]]:
    """Makes a :func:`program`, but for images of one size if any size is not possible: a remark."""
    reason = ""
    if any_size:
        try:
            exported = program(graph, example, any_size)
            exported.example_inputs = None  # a pickle in the file; as read from there, it has guards for sizes alone
            if has_any_size(exported):
                exported.module()(example.repeat(1, 1, 2, 2))  # it may have noted a limit, as of an ``if`` on sizes
            return exported, []
        except Exception as error:  # torch raises many kinds
            reason = first_line(error)
    try:
        exported = program(graph, example)
        exported.example_inputs = None
    except Exception as error:
        advice = "Its forward must do the same for any number of images: no loop over them, no if on their number."
        raise ExportError(
            f"torch.export cannot export this network: {first_line(error)}",
            hint=advice if "(batch)" in str(error) else "",
        ) from None
    return exported, [
        f"height and width are fixed, because with any size torch.export failed: {reason}"
    ] if reason else []


def _is_installed(library: str) -> bool:
    import importlib

    try:
        importlib.import_module(library)
    except ImportError:
        return False
    return True


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences what exporters print, log and warn of on the way: what fails raises."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


IMAGES, SEED, SPLIT = 300, 0, "train"
"""The calibration images of int8: how many, chosen with which seed, of which split; never images that a score is
measured on."""

_BATCH = 50


def training_images(about: About, data_set: str | None) -> tuple[Tensor, Calibration]:
    """Returns images of the training split as the exported graph takes them, B C H W, and which images they are.

    Raises :class:`DataError` if there is no data set, or its training split is not available.
    """
    name = data_set or about.classes
    if not name:
        raise DataError(
            f"int8 needs training images, and {about.weights or about.model} does not name its data set.",
            hint="Set one with --calibrate DATA.",
        )
    try:
        images = data.load(name, SPLIT)
    except ZooError as error:
        if data_set:
            raise
        raise DataError(
            f"int8 needs training images, and those of {name} are not here: {error.message}",
            hint="Set others with --calibrate DATA: photographs of any kind, such as those of caltech101.",
        ) from None
    numbers = torch.randperm(len(images), generator=torch.Generator().manual_seed(SEED))[:IMAGES]
    chosen = images.subset(numbers, images.split)
    prepared = Transform(about.preprocess).take(images, numbers)
    return as_taken(about, prepared), Calibration(images.name, images.split, len(numbers), SEED, chosen.fingerprint)


_FULL = 6
"""The number of first convolutions, of a network with depthwise ones, that stay in float32."""


def kept_full(model: Any) -> list[str]:
    """Returns the nodes of an ONNX model that int8 would harm most: the first convolutions beside depthwise ones.

    Activations have one scale for all channels. Those of a depthwise convolution differ widely in range, and in the
    first there are few of them, which everything else depends on.
    """
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    groups = [a.i for node in convolutions for a in node.attribute if a.name == "group"]
    return [node.name for node in convolutions[:_FULL]] if max(groups, default=1) > 1 else []


def quantize(source: Path, target: Path, inputs: Tensor) -> None:
    """Writes the ONNX file ``source`` with int8 weights (by channel) and activations to ``target``, as QDQ nodes.

    The nodes of :func:`kept_full` stay as they are; biases make up for what rounded weights shift.
    """
    try:
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError:
        raise MissingExtraError.of("Quantising to int8", "onnxruntime", EXTRA) from None
    ready = target.with_name(f"prepared-{target.name}")
    try:
        quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
        model = onnx.load(str(ready))
        kept = kept_full(model)
        rounding.correct_biases(model, inputs, kept)
        onnx.save(model, str(ready))
        quantization.quantize_static(
            str(ready),
            str(target),
            _reader(quantization.CalibrationDataReader, inputs),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,  # signed ones run as float32 where a sum follows
            weight_type=quantization.QuantType.QInt8,
            nodes_to_exclude=kept,
        )
    except Exception as error:  # onnxruntime raises many kinds
        raise ExportError(f"onnxruntime cannot quantise this network: {first_line(error)}") from None
    finally:
        ready.unlink(missing_ok=True)


def _reader(base: Any, inputs: Tensor) -> Any:
    batches = (inputs[start : start + _BATCH] for start in range(0, len(inputs), _BATCH))

    class Reader(base):  # type: ignore[misc]  # onnxruntime is not typed
        def get_next(self) -> dict[str, Any] | None:
            batch = next(batches, None)
            return None if batch is None else {INPUT: batch.numpy()}

    return Reader()


class _Maps(Graph):
    """A module from images to the outputs of ``layers``."""

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        super().__init__(network, info_of(network).preprocess, "uint8", "float32")
        self.layers = layers
        self.taps = Taps(network, layers)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]  # several outputs
        _, seen = self.taps.run(self.network, self.prepared(images), stop=True)
        return tuple(seen[layer] for layer in self.layers)


def export_maps(name: str, file: Path, count: int = 2) -> tuple[str, ...]:
    """Writes an ONNX file from uint8 pixels to the maps of the first ``count`` default layers of a network.

    Returns the names of the layers, which are those of the outputs; without any, no file is written. Layers without
    maps are left out. Raises :class:`ExportError`.
    """
    network = as_network(name)
    with on_cpu(network) as used:
        size = info_of(network).preprocess.input_size
        defaults: tuple[str, ...] = getattr(network, "default_layers", ())
        maps_of_all = _Maps(used, defaults)
        try:
            shown = zip(defaults, maps_of_all(maps_of_all.example(size)), strict=True)
            layers = [layer for layer, maps in shown if maps.ndim == 4 and min(maps.shape[2:]) > 1][:count]
        finally:
            maps_of_all.taps.remove()
        if not layers:
            return ()
        exported = _Maps(used, layers)
        try:
            with quiet():
                write_onnx(exported, exported.example(size), file, layers)
        finally:
            exported.taps.remove()
    return tuple(layers)
