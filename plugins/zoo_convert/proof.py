"""Whether a converted network computes what its ONNX file does: onnxruntime and torch on the same photographs."""

from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from zoo.data.preprocess import Transform
from zoo.errors import FileFormatError, MissingExtraError, TensorMismatchError
from zoo.loading import Network, onnx_session
from zoo.spec import Preprocess
from zoo.verify import agreement
from zoo_convert import onnx
from zoo_convert.fitting import Fitted

TOLERANCE = 1e-4
"""The largest difference, relative to the largest output: float32 differs by about 1e-6, a wrong layer by 1e-2."""


class Proof(msgspec.Struct, frozen=True):
    """What was compared, on how many images; ``difference`` is the largest, relative to the largest output.

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
        self._output = onnx.output_of(model)
        self._answers: dict[tuple[str, bytes], Tensor] = {}

    def prove(self, network: Network, fitted: Fitted, preprocess: Preprocess) -> Proof:
        """Raises :class:`TensorMismatchError` if the outputs differ, :class:`MissingExtraError`."""
        transform = Transform(preprocess)
        images = torch.stack([transform(image) for image in agreement.photographs()])
        try:
            theirs = self._answer(fitted, images)
        except MissingExtraError:
            if fitted.is_in_order and not self._is_scored:
                raise
            return Proof(problem="onnxruntime is not installed")
        except FileFormatError as error:
            if fitted.is_in_order and not self._is_scored:
                raise
            return Proof(problem=error.message)
        with torch.inference_mode():
            ours = torch.cat([network(image[None]) for image in images])
            if ours.shape != theirs.shape and fitted.is_trunk:
                ours = torch.cat([network.forward_features(image[None]) for image in images])
        what = "features" if fitted.is_trunk else "logits"
        if ours.shape != theirs.shape:
            raise TensorMismatchError(
                f"The network's {what} have shape {tuple(ours.shape[1:])}, those of the file {tuple(theirs.shape[1:])}"
            )
        difference = agreement.difference(ours, theirs)
        if not difference <= TOLERANCE:  # NaN must fail
            raise TensorMismatchError(
                f"The network's {what} differ from those that onnxruntime computes from the file by {difference:.1e} "
                f"of the largest on {len(images)} images, allowed {TOLERANCE:g}"
            )
        if not agreement.depends_on_image(theirs):
            raise TensorMismatchError(f"The file's {what} hardly differ from image to image, so they prove nothing")
        before = " before the file's softmax" if self._output.is_softmax and what == "logits" else ""
        return Proof(what + before, len(images), difference)

    def _answer(self, fitted: Fitted, images: Tensor) -> Tensor:
        """The outputs of the file, float32 B ..., without sides of 1."""
        key_map = fitted.key_map
        images = (images.flip(1) if key_map.input_order == "bgr" else images) * key_map.input_scale
        if onnx.is_channels_last(self._model):
            images = images.permute(0, 2, 3, 1)
        output = fitted.features or self._output.name
        key = (output, images.numpy().tobytes())
        if key not in self._answers:
            self._answers[key] = self._run(output, images)
        return self._answers[key]

    def _run(self, output: str, images: Tensor) -> Tensor:
        what = f"Matching the tensors of {self._file.name} in order"
        is_stated = output in {value.name for value in self._model.graph.output}
        model = self._file if is_stated else self._up_to(output)
        session = onnx_session.start(model, self._file.name, what=what, extra="zoo-vision[convert]")
        size = session.get_inputs()[0].shape[0]
        batch = size if isinstance(size, int) else 1
        rows = [
            onnx_session.run(session, output, image[None].expand(batch, -1, -1, -1), self._file.name)[:1].float()
            for image in images
        ]
        answers = torch.cat(rows)
        return answers.flatten(1) if answers.shape[2:].numel() == 1 else answers

    def _up_to(self, output: str) -> bytes:
        """The model with the value ``output`` as its only output."""
        import onnx as library

        model = library.ModelProto()
        model.CopyFrom(self._model)
        del model.graph.output[:]
        model.graph.output.append(library.ValueInfoProto(name=output))
        try:
            content: bytes = model.SerializeToString()
        except Exception as error:  # protobuf has a limit of 2 GB
            raise FileFormatError(f"onnxruntime cannot run {self._file.name}: {error}") from None
        return content
