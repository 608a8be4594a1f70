"""A file with a network's outputs for a data set, from which every score follows without the network.

The logits are stored in float16, each row less its largest, which is stored in float32: what decides a softmax is
near the largest and loses least. The likeliest classes are stored as the network ranked them, so that rounding changes
no count of correct images.
"""

from pathlib import Path
from typing import NamedTuple

import msgspec
import torch
from torch import Tensor

from zoo.data.image_set import ImageSet
from zoo.errors import FileFormatError
from zoo.evaluation.outputs import Outputs
from zoo.evaluation.score import Report
from zoo.loading import safetensors_file

VERSION = 1
_LEAST = -65504.0
"""The smallest finite float16: the probability of such a class is 0 in any precision."""


class About(msgspec.Struct, frozen=True):
    """What the outputs are: ``sha256`` is that of the weights, ``report`` what the network scored."""

    version: int
    sha256: str
    classes: tuple[str, ...]
    report: Report


class StoredOutputs(NamedTuple):
    """Outputs with the ``labels`` of their images, int64 N, and their ``identities``, uint8 N 32.

    An identity is the sha256 of an image's size, label and pixels (:attr:`zoo.data.ImageSet.identities`).
    """

    about: About
    outputs: Outputs
    labels: Tensor
    identities: Tensor


def write(file: Path, outputs: Outputs, data: ImageSet, report: Report, sha256: str) -> None:
    """Writes ``outputs`` for the images ``data`` to ``file``; ``sha256`` is that of the weights."""
    tensors = {
        "ranked": outputs.ranked.to(torch.int32),
        "labels": data.labels.to(torch.int32),
        "identities": data.identities,
    }
    if outputs.logits is not None:
        largest = outputs.logits.max(dim=1).values
        tensors["largest"] = largest
        tensors["logits"] = (outputs.logits - largest[:, None]).clamp(min=_LEAST).half()
    about = About(VERSION, sha256, tuple(data.classes), report)
    safetensors_file.write(tensors, file, {"outputs": msgspec.to_builtins(about)})


def read_outputs(file: str | Path) -> StoredOutputs:
    """Reads a file that :func:`zoo.evaluate` wrote (``outputs``).

    Args:
        file: The file.

    Returns:
        The outputs, labels and identities, and what they are.

    Raises:
        FileFormatError: The file has other contents.
        WeightsError: The file cannot be read.

    Example:
        >>> import zoo
        >>> report = zoo.evaluate("resnet20.digits", "digits", outputs="outputs.safetensors")
        >>> stored = zoo.evaluation.read_outputs("outputs.safetensors")
        >>> stored.outputs.logits.shape, stored.about.report == report
        (torch.Size([360, 10]), True)
    """
    file = Path(file)
    tensors = safetensors_file.read(file)
    try:
        about = msgspec.convert(safetensors_file.metadata(file)["outputs"], About)
        if about.version != VERSION:
            raise ValueError(f"version {about.version} is not {VERSION}: it was written by another version of Zoo")
        return _checked(about, tensors)
    except (KeyError, ValueError) as error:  # msgspec's errors are ValueErrors
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise FileFormatError(
            f"{file}: not a file of outputs: {reason}.", hint="zoo evaluate NAME --data D --outputs FILE writes one."
        ) from None


def _checked(about: About, tensors: dict[str, Tensor]) -> StoredOutputs:
    ranked, labels, identities = (tensors[name] for name in ("ranked", "labels", "identities"))
    n, classes = about.report.n, len(about.classes)
    logits = tensors.get("logits")
    shapes = {
        "ranked": (ranked, (n, *ranked.shape[1:2])),
        "labels": (labels, (n,)),
        "identities": (identities, (n, 32)),
    }
    if logits is not None:
        shapes |= {"logits": (logits, (n, *logits.shape[1:2])), "largest": (tensors["largest"], (n,))}
    for name, (tensor, shape) in shapes.items():
        if tuple(tensor.shape) != shape or 0 in shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {n} rows")
    columns = classes if logits is None else logits.shape[1]
    for name, tensor, limit in (("ranked", ranked, max(columns, classes)), ("labels", labels, min(columns, classes))):
        if tensor.is_floating_point() or int(tensor.min()) < 0 or int(tensor.max()) >= limit:
            raise ValueError(f"{name} are not numbers of {limit} classes")
    if logits is not None:
        logits = logits.float() + tensors["largest"].float()[:, None]
        if not logits.isfinite().all():
            raise ValueError("logits contain NaN or infinity")
    return StoredOutputs(about, Outputs(ranked.long(), logits), labels.long(), identities)
