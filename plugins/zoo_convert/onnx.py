"""ONNX files: their initialisers under their own names, their graph, and whether a network computes what they do."""

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import safetensors.torch
import torch
from torch import Tensor

from zoo.data.preprocess import Transform
from zoo.errors import FileFormatError, MissingExtraError, TensorMismatchError, WeightsError
from zoo.loading import Network, onnx_session
from zoo.spec import Preprocess
from zoo.system import process, sandbox, storage
from zoo.verify import probe

if TYPE_CHECKING:
    from zoo_convert.fitting import Fitted


def read(file: Path) -> tuple[dict[str, Tensor], list[str], Any]:
    """Reads the tensors, the names of whole numbers that are shapes rather than weights, and the ``onnx.ModelProto``.

    Raises :class:`FileFormatError`, :class:`MissingExtraError`.
    """
    try:
        from onnx import numpy_helper
        from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data
    except ImportError:
        raise MissingExtraError.of(f"Reading {file.name}", "onnx", "zoo-vision[convert]") from None
    try:
        model = load(file)
        tensors: dict[str, Tensor] = {}
        dropped = []
        for initializer in model.graph.initializer:
            if uses_external_data(initializer):
                _check_beside(file, initializer)
                load_external_data_for_tensor(initializer, str(file.parent))
            tensor = torch.from_numpy(numpy_helper.to_array(initializer).copy())
            if tensor.is_floating_point() or initializer.name.endswith("num_batches_tracked"):
                tensors[initializer.name] = tensor
            else:
                dropped.append(initializer.name)
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # protobuf and onnx raise many kinds at damaged files
        raise FileFormatError(f"{file}: not a usable ONNX file: {type(error).__name__}: {error}") from None
    if not tensors:
        raise FileFormatError(f"{file}: its graph has no initialisers, so it contains no weights.")
    for node in model.graph.node:  # torch's exporter stores equal tensors once, and the others as copies of that one
        if node.op_type == "Identity" and node.input[0] in tensors:
            tensors[node.output[0]] = tensors[node.input[0]]
    return tensors, dropped, model


def load(file: Path) -> Any:
    """Returns the ``onnx.ModelProto`` in ``file``, without data that is stored elsewhere."""
    import onnx

    return onnx.load(str(file), load_external_data=False)


class Use(NamedTuple):
    """A tensor of a file with its name; in an ONNX graph, a convolution's weights with its bias, if it has one.

    ``is_normalized`` if a normalization takes what the convolution gives.
    """

    name: str
    tensor: Tensor
    bias: "Use | None" = None
    is_normalized: bool = False


def uses(model: Any, tensors: Mapping[str, Tensor]) -> list[Use]:
    """Returns ``tensors`` in the order in which the graph of ``model`` uses them, linear layers' weights as O I.

    Single numbers, which are constants of the graph, are left out.
    """
    listed: dict[str, Use] = {}
    normalized = {node.input[0] for node in model.graph.node if node.op_type == "BatchNormalization"}
    for node in model.graph.node:
        if node.op_type == "Identity":
            continue
        bias = None
        if node.op_type == "Conv" and len(node.input) > 2 and node.input[2] in tensors:
            bias = Use(node.input[2], tensors[node.input[2]])
        is_turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        for name in node.input:
            tensor = tensors.get(name)
            if tensor is None or tensor.ndim == 0 or name in listed:
                continue
            if tensor.ndim == 2 and node.op_type in ("MatMul", "Gemm") and not is_turned:
                tensor = tensor.T.contiguous()
            if bias is not None and name == node.input[1]:
                listed[name] = Use(name, tensor, bias, not normalized.isdisjoint(node.output))
            else:
                listed[name] = Use(name, tensor)
    return [*listed.values()]


def fold_biases(model: Any, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Returns ``tensors`` with the bias of each convolution subtracted from the mean of a normalization behind it.

    (x + bias - mean) is (x - (mean - bias)). Also returns what became a part of what.
    """
    makers = {output: node for node in model.graph.node for output in node.output}
    changed, lines = dict(tensors), []
    for node in model.graph.node:
        before = makers.get(node.input[0]) if node.op_type == "BatchNormalization" and len(node.input) > 3 else None
        if before is None or before.op_type != "Conv" or len(before.input) < 3:
            continue
        bias, mean = before.input[2], node.input[3]
        if {bias, mean} <= changed.keys() and changed[bias].shape == changed[mean].shape:
            changed[mean] = changed[mean] - changed.pop(bias)
            lines.append(f"{bias} into {mean}")
    return changed, lines


def values_before(model: Any, names: Collection[str]) -> list[str]:
    """Returns the values that layers with the tensors ``names`` take, and those of which these are views.

    None of them depends on such a layer.
    """
    makers = {output: node for node in model.graph.node for output in node.output}
    tensors = {value.name for value in model.graph.initializer if value.data_type == value.FLOAT}
    changed = tensors.intersection(names)
    values: list[str] = []
    for node in model.graph.node:
        if changed.isdisjoint(node.input):
            continue
        changed |= {*node.output}
        for value in node.input:
            while value in makers and value not in changed and value not in values:
                values.append(value)
                maker = makers[value]
                value = maker.input[0] if maker.input and tensors.isdisjoint(maker.input[1:2]) else ""
    return values


class Output(NamedTuple):
    """The name of the file's logits; if ``is_softmax``, the file computes probabilities from them."""

    name: str
    is_softmax: bool


def output_of(model: Any) -> Output:
    """Returns the first output, without a softmax at the end."""
    name = first = model.graph.output[0].name if model.graph.output else ""
    for node in reversed(model.graph.node):  # they are in the order in which they run
        if name not in node.output or not node.input:
            continue
        name = node.input[0]
        if node.op_type in ("Softmax", "LogSoftmax"):
            return Output(name, True)
        if node.op_type not in ("Identity", "Dropout", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze"):
            break
    return Output(first, False)


def input_size(model: Any) -> tuple[int, int, int] | None:
    """Returns channels, height and width of the images that the graph takes, if it states them."""
    shape = _input_shape(model)
    sizes = shape[1:] if not is_channels_last(model) else [shape[3], *shape[1:3]]
    return (sizes[0], sizes[1], sizes[2]) if len(shape) == 4 and all(sizes) else None


def is_channels_last(model: Any) -> bool:
    """Returns whether the graph takes images B H W C, as those converted from TensorFlow do."""
    shape = _input_shape(model)
    return len(shape) == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3)


def _input_shape(model: Any) -> list[int]:
    """Returns the sizes of the first input, 0 for one that the graph leaves open."""
    held = {initializer.name for initializer in model.graph.initializer}  # old files list these as inputs too
    images = next((value for value in model.graph.input if value.name not in held), None)
    return [size.dim_value for size in images.type.tensor_type.shape.dim] if images is not None else []


def _check_beside(file: Path, initializer: Any) -> None:
    """Raises for external data that is not in a file beside the ONNX file."""
    places = [entry.value for entry in initializer.external_data if entry.key == "location"] or [""]
    for place in places:
        there = file.parent / place
        if Path(place).name == place and not there.is_symlink() and there.is_file():
            continue
        raise FileFormatError(
            f"{file}: {initializer.name} is stored in {place!r}, which is not a file beside it.",
            hint="Put the .onnx file and its data into one folder.",
        )


TOLERANCE = 1e-4
"""The largest difference, relative to the largest output: float32 differs by about 1e-6, a wrong layer by 1e-2."""


class Proof(msgspec.Struct, frozen=True):
    """The comparison, on how many images; ``difference`` is the largest, relative to the largest output.

    With a ``problem``, nothing was.
    """

    compared: str = ""
    images: int = 0
    difference: float = 0.0
    tolerance: float = TOLERANCE
    problem: str = ""

    def __str__(self) -> str:
        if self.problem:
            return f"not proven: {self.problem}"
        return (
            f"proven by outputs: {self.images} images have the same {self.compared} in onnxruntime and here, "
            f"to {self.difference:.1e} of the largest (allowed: {self.tolerance:g})"
        )


class Prover:
    """Compares networks with the ``onnx.ModelProto`` of ``file``, which runs once for every input and output.

    A reading by names, or any if a score decides, is also accepted without proof if onnxruntime is missing or cannot
    run the file.
    """

    def __init__(self, file: Path, model: Any, *, is_scored: bool = False) -> None:
        self._file, self._model, self._is_scored = file, model, is_scored
        self._output = output_of(model)
        self._answers: dict[tuple[str, bytes], Tensor] = {}

    def prove(self, network: Network, fitted: "Fitted", preprocess: Preprocess) -> Proof:
        """Raises :class:`TensorMismatchError` if the outputs differ, :class:`MissingExtraError`."""
        transform = Transform(preprocess)
        images = torch.stack([transform(image) for image in probe.photographs()])
        what = "features" if fitted.is_trunk else "logits"
        with torch.inference_mode():
            ours = [torch.cat([network(image[None]) for image in images])]
            if fitted.is_trunk:
                ours.append(torch.cat([network.forward_features(image[None]) for image in images]))
        problem: TensorMismatchError | None = None
        for output in fitted.features or [self._output.name]:
            try:
                theirs = self._answer(fitted, images, output)
                difference = _compare(ours, theirs, what)
            except (MissingExtraError, FileFormatError) as error:
                if fitted.is_in_order and not self._is_scored:
                    raise
                is_missing = isinstance(error, MissingExtraError)
                return Proof(problem="onnxruntime is not installed" if is_missing else error.message)
            except TensorMismatchError as error:
                has_shape = any(maps.shape == theirs.shape for maps in ours)
                problem = error if problem is None or has_shape else problem
            else:
                before = " before the file's softmax" if self._output.is_softmax and not fitted.is_trunk else ""
                return Proof(what + before, len(images), difference)
        assert problem is not None
        raise problem

    def _answer(self, fitted: "Fitted", images: Tensor, output: str) -> Tensor:
        """Returns the outputs of the file, float32 B ..., without sides of 1."""
        key_map = fitted.key_map
        images = (images.flip(1) if key_map.input_order == "bgr" else images) * key_map.input_scale
        if is_channels_last(self._model):
            images = images.permute(0, 2, 3, 1)
        key = (output, images.numpy().tobytes())
        if key not in self._answers:
            self._answers[key] = self._run(output, images)
        return self._answers[key]

    def _run(self, output: str, images: Tensor) -> Tensor:
        if sandbox.layers() is not None:
            return run(self._file, output, images)
        with tempfile.TemporaryDirectory(prefix="zoo-convert-") as folder:
            given, answer = Path(folder, "images"), Path(folder, "outputs")
            safetensors.torch.save_file({"images": images.contiguous()}, given)
            process.ask(
                f"{__name__}:run_here",
                {"file": str(self._file), "output": output, "images": str(given), "outputs": str(answer)},
                what=f"Running {self._file.name}",
                timeout=TIMEOUT,
                hint="",
                sandbox=sandbox.around(self._file, writable=Path(folder)),
            )
            return safetensors.torch.load(storage.read_bounded(answer, 1 << 32))["outputs"]


TIMEOUT = 1200.0
"""Seconds that the graph may take for a few images."""


def run_here(*, file: str, output: str, images: str, outputs: str) -> None:
    """Writes the values ``output`` of the graph in ``file`` for a file of ``images`` to the file ``outputs``."""
    answers = run(Path(file), output, safetensors.torch.load_file(images)["images"])
    safetensors.torch.save_file({"outputs": answers.contiguous()}, outputs)


def run(file: Path, output: str, images: Tensor) -> Tensor:
    """Returns the values ``output`` of the graph in ``file``, float32 B ..., without sides of 1."""
    model = load(file)
    is_stated = output in {value.name for value in model.graph.output}
    what = f"Matching the tensors of {file.name} in order"
    content = file if is_stated else _up_to(model, output, file.name)
    session = onnx_session.start(content, file.name, what=what, extra="zoo-vision[convert]")
    size = session.get_inputs()[0].shape[0]
    batch = size if isinstance(size, int) else 1
    rows = [
        onnx_session.run(session, output, image[None].expand(batch, -1, -1, -1), file.name)[:1].float()
        for image in images
    ]
    answers = torch.cat(rows)
    return answers.flatten(1) if answers.shape[2:].numel() == 1 else answers


def _up_to(model: Any, output: str, name: str) -> bytes:
    """Returns ``model`` with the value ``output`` as its only output."""
    import onnx

    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name=output))
    try:
        content: bytes = model.SerializeToString()
    except Exception as error:  # protobuf has a limit of 2 GB
        raise FileFormatError(f"onnxruntime cannot run {name}: {error}") from None
    return content


def _compare(ours: list[Tensor], theirs: Tensor, what: str) -> float:
    """Returns the smallest difference from ``theirs`` of those of ``ours`` that have its shape.

    Raises :class:`TensorMismatchError` if none has, if it is too large, or if it proves nothing.
    """
    alike = [maps for maps in ours if maps.shape == theirs.shape]
    if not alike:
        raise TensorMismatchError(
            f"The network's {what} have shape {tuple(ours[0].shape[1:])}, those of the file {tuple(theirs.shape[1:])}"
        )
    difference = min(probe.difference(maps, theirs) for maps in alike)
    if not difference <= TOLERANCE:  # NaN must fail
        raise TensorMismatchError(
            f"The network's {what} differ from those that onnxruntime computes from the file by {difference:.1e} "
            f"of the largest on {len(theirs)} images, allowed {TOLERANCE:g}"
        )
    if not probe.depends_on_image(theirs):
        raise TensorMismatchError(f"The file's {what} hardly differ from image to image, so they prove nothing")
    return difference
