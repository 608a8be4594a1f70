"""The context of a measurement: weights, images, software."""

from hashlib import sha256
from typing import Any

import msgspec
from torch import nn

from zoo.data.image_set import Fingerprint, ImageSet
from zoo.data.readers.torch_dataset import PreparedBatches
from zoo.system.machine import versions

OF_LABELS = "labels sha256:"
"""How the fingerprint of labels alone begins."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What every measurement records.

    ``weights`` is the name of the manifest's entry, else the file, else empty. ``fingerprint`` names the pixels and
    labels of the ``n`` images, or the labels alone (:func:`fingerprint_of_labels`).
    """

    model: str
    weights: str
    dataset: str
    split: str
    fingerprint: str
    n: int
    versions: dict[str, str]
    command: str = ""


def provenance(
    model: nn.Module, data: ImageSet | PreparedBatches, n: int, streamed: Fingerprint | None = None, command: str = ""
) -> dict[str, Any]:
    """The fields of :class:`Measured`; ``streamed`` has seen the pixels of images that are not resident."""
    info = getattr(model, "zoo_info", None)
    return {
        "model": info.model.name if info is not None else type(model).__name__,
        "weights": weights_name(model),
        "dataset": data.name,
        "split": data.split,
        "fingerprint": fingerprint_of(data, streamed),
        "n": n,
        "versions": versions(),
        "command": command,
    }


def weights_name(model: nn.Module) -> str:
    """The name of the manifest's entry, else the file, else nothing: such a network is not trained."""
    info = getattr(model, "zoo_info", None)
    return info.name if info is not None and (info.weights is not None or info.file is not None) else ""


def fingerprint_of_labels(data: ImageSet) -> str:
    """The fingerprint of labels alone, for images whose pixels were not all read.

    Args:
        data: The images.

    Returns:
        ``labels sha256:`` and 64 hexadecimal digits, over the labels in order.

    Example:
        >>> import zoo
        >>> zoo.evaluation.fingerprint_of_labels(zoo.data.load("digits", "test"))
        'labels sha256:...'
    """
    return f"{OF_LABELS}{sha256(data.labels.numpy().tobytes()).hexdigest()}"


def fingerprint_of(data: ImageSet | PreparedBatches, streamed: Fingerprint | None = None) -> str:
    """That of pixels and labels if the pixels were read, as ``streamed`` or resident ones; else of labels alone."""
    if isinstance(data, PreparedBatches):
        return data.fingerprint
    if streamed is not None:
        return str(streamed)
    return data.fingerprint if data.pixels is not None else fingerprint_of_labels(data)
