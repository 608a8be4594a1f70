"""``export``: a network to a file of another runtime, compared with the network before it is there."""

import os
import re
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from zoo import registry
from zoo.errors import SpecError
from zoo.loading.create import as_network, info_of
from zoo.registry import extensions
from zoo.system import storage
from zoo_export import formats
from zoo_export.formats import About, Agreement, Sidecar

if TYPE_CHECKING:
    from torch import nn

    from zoo.loading import ModelInfo


class Export(msgspec.Struct, frozen=True):
    """The files that :func:`export` wrote.

    ``sha256`` holds that of the file by its name. ``notes`` are remarks of the exporter.
    """

    file: Path
    size: int
    sha256: dict[str, str]
    about: About
    agreement: Agreement
    notes: tuple[str, ...] = ()


def export(
    model: "str | nn.Module",
    file: str | Path | None = None,
    *,
    format: str = "",
    precision: str = "float32",
    preprocess: str = "inside",
    input: str = "float32",
    calibrate: str | None = None,
    passes: Sequence[str] = (),
    weights: str | Path | None = None,
    **args: Any,
) -> Export:
    """Exports a network with its weights to a file of another runtime, for batches of any size.

    The file is run at once, in a process of its own, on photographs and on training images if they are on this
    machine. If its outputs are not those of the network, no file is written. Preprocessing, classes, and the weights'
    name and sha256 are stated in the file's metadata and in ``FILE.json`` beside it.

    Args:
        model: A name, or a network that :func:`zoo.create` returned. A name without a tag means the model's default
            weights.
        file: The file to write. By default the name of the weights, in the working directory.
        format: ``onnx`` (``.onnx``) or ``torch-export`` (``.pt2``). By default that of the file's suffix.
        precision: ``float32``; ``float16`` for a network that computes with half precision; ``int8`` for static
            quantisation, in the format ``onnx``.
        preprocess: ``inside`` if the file scales and normalises images, ``beside`` if the caller does. Resizing and
            cropping are up to the caller.
        input: What a file that normalises takes: ``float32`` in [0, 1], or ``uint8`` pixels.
        calibrate: For ``int8``, the data set whose training split calibrates the network. By default that whose classes
            the weights know.
        passes: Export passes that plugins bring (:class:`zoo.spec.ExportPass`), in the order in which they are run on a
            copy of the network.
        weights: A local safetensors file, instead of the weights that a name means.
        args: Arguments of the family's build function, for a name.

    Returns:
        The file, its description, and how far its outputs are from the network's.

    Raises:
        UnknownNameError: There is no such model, data set or export pass.
        SpecError: A value is not valid.
        ExportError: The exporter does not support the network, or the file computes something else.
        MissingExtraError: The exporter or the runtime is not installed.
        DataError: The images for ``int8`` are not available.

    Example:
        >>> import zoo
        >>> made = zoo.export("resnet20.digits", "digits.pt2")
        >>> made.agreement.difference < 1e-4
        True
        >>> zoo.evaluate("digits.pt2", "digits").correct
        360
    """
    from zoo.evaluation.prediction import class_names_of
    from zoo_export import agreement, graph, writers

    chosen = formats.of(format, None if file is None else Path(file))
    takes = graph.input_of(preprocess, input)
    if precision not in ("float32", "float16", "int8"):
        raise SpecError(f"precision = {precision!r}: expected float32, float16 or int8.")
    if precision == "int8" and chosen != "onnx":
        raise SpecError(f"int8 is not available in the format {chosen}.", hint="Use --format onnx.")
    if calibrate is not None and precision != "int8":
        raise SpecError(f"calibrate = {calibrate!r} has no effect on {precision}.", hint="Use --precision int8.")
    if isinstance(model, str) and extensions.opener_of(model) is not None:
        raise SpecError(f"{model} is an exported file already.", hint="Export the weights that it was made from.")
    graph.check_passes(passes)
    network = as_network(model, weights=weights, **args)
    info = info_of(network)
    about = About(
        format=chosen,
        precision=precision,  # type: ignore[arg-type]  # one of them, as was checked
        input=takes,
        model=info.model.name,
        num_classes=getattr(network, "num_classes", 0),  # feature maps have none
        preprocess=info.preprocess,
        classes=info.classes,
        class_names=class_names_of(network),
        passes=tuple(passes),
        **registry.current().distribution_of(info.model),
        zoo=version("zoo-vision"),
    )
    about = msgspec.structs.replace(about, **_origin(network, info, isinstance(model, str) and not args))
    stem = info.file.stem if info.file is not None and info.weights is None else re.sub(r"[^\w.-]+", "_", info.name)
    target = Path(file) if file is not None else Path(stem + formats.SUFFIXES[chosen])
    target.parent.mkdir(parents=True, exist_ok=True)
    with graph.on_cpu(network) as used, tempfile.TemporaryDirectory(dir=target.parent, prefix=".zoo-export-") as folder:
        file = Path(folder, target.name)
        calibration = None
        if precision == "int8":
            calibration, images = writers.training_images(about, calibrate)
            about = msgspec.structs.replace(about, calibration=images)
        exported = graph.Graph(graph.run_passes(used, passes), about.preprocess, about.input, about.precision)
        about, notes = writers.write(exported, about, file, calibration)
        agreed = agreement.check(used, file, about)
        digests = _move(file, target, about, agreed)
    return Export(target, target.stat().st_size, digests, about, agreed, tuple(notes))


def _move(file: Path, target: Path, about: About, agreed: Agreement) -> dict[str, str]:
    """Moves an export from ``file`` to ``target``, and writes its description; returns its sha256 by its name."""
    digests = {target.name: storage.sha256_of(file)}
    formats.sidecar(target).unlink(missing_ok=True)  # it would be about another file
    os.replace(file, target)
    formats.write_sidecar(target, Sidecar(about, digests, agreed))
    return digests


def _origin(network: "nn.Module", info: "ModelInfo", is_unchanged: bool) -> dict[str, str]:
    """Returns name, sha256 and source of the weights; nothing if the network has been changed since it was loaded."""
    if info.file is None or not (is_unchanged or _is_as_loaded(network, info.file)):
        return {}
    if info.weights is None:
        return {"weights": info.file.name, "sha256": storage.sha256_of(info.file)}
    return {"weights": info.weights.name, "sha256": info.weights.sha256, "source": info.weights.origin}


def _is_as_loaded(network: "nn.Module", file: Path) -> bool:
    from zoo.loading import safetensors_file

    state, tensors = network.state_dict(), safetensors_file.read(file)
    return state.keys() == tensors.keys() and all(
        state[key].cpu().equal(tensors[key].to(state[key].dtype)) for key in tensors
    )
