"""Static quantisation of ONNX files: int8 weights and activations, their ranges measured on training images."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo import data
from zoo.data.preprocess import Transform
from zoo.errors import DataError, ExportError, MissingExtraError
from zoo.exported.about import About, Calibration
from zoo.exported.network import as_taken
from zoo_export.graph import EXTRA, INPUT, first_line

IMAGES, SEED, SPLIT = 300, 0, "train"
"""How many images, chosen with which seed, of which split: never images that a score is measured on."""

_BATCH = 50


def training_images(about: About, data_set: str | None) -> tuple[Tensor, Calibration]:
    """Images of the training split as the exported graph takes them, B C H W, and which images they are.

    Raises :class:`DataError` if there is no data set, or its training split is not available.
    """
    name = data_set or about.classes
    if not name:
        raise DataError(
            f"int8 needs training images, and {about.weights or about.model} does not name its data set.",
            hint="Set one with --calibrate DATA.",
        )
    images = data.load(name, SPLIT)
    numbers = torch.randperm(len(images), generator=torch.Generator().manual_seed(SEED))[:IMAGES]
    chosen = images.subset(numbers, images.split)
    prepared = Transform(about.preprocess).take(images, numbers)
    return as_taken(about, prepared), Calibration(images.name, images.split, len(numbers), SEED, chosen.fingerprint)


def quantise(source: Path, target: Path, inputs: Tensor) -> None:
    """Writes the ONNX file ``source`` with int8 weights (by channel) and activations to ``target``, as QDQ nodes."""
    try:
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError:
        raise MissingExtraError.of("Quantising to int8", "onnxruntime", EXTRA) from None
    ready = target.with_name(f"prepared-{target.name}")
    try:
        quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(ready),
            str(target),
            _reader(quantization.CalibrationDataReader, inputs),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
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
