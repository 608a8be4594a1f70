"""Measures weights as a witness: what ``zoo attest`` signs."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import torch

from zoo import resolve
from zoo.creation import create, info_of
from zoo.errors import WeightsError
from zoo.evaluation import by_name
from zoo.evaluation.score import Report
from zoo.evaluation.speed import hardware
from zoo.manifest import Weights
from zoo.trust.attestation import Measurement
from zoo.trust.lock import full_name


def measure_as_witness(
    name: str, data: str | None, split: str = "test", **options: Any
) -> tuple[Measurement, Weights, Report]:
    """Scores the weights that a manifest names, and states what the result depends on.

    Args:
        name: Weights, or a model for its default weights.
        data: A data set's name or path. By default the one whose classes the weights know.
        split: The split.
        options: As for :func:`zoo.evaluate`.

    Returns:
        The measurement, the weights' entry, and the report.

    Raises:
        WeightsError: The weights have no sha256 that a manifest or a lock states.
        DataError: The images cannot be loaded, or have classes that the weights do not know.
    """
    found = resolve.find(name)
    model = create(name, pretrained=found.weights is None)
    info = info_of(model)
    if info.weights is None or not info.weights.sha256:
        raise WeightsError(f"{name} has no sha256 that others know.", hint="Publish it: zoo publish.")
    report = by_name.evaluate(model, data, split, **options)
    return (
        Measurement(
            weights=full_name(found, info.weights.tag),
            dataset=report.dataset,
            split=report.split,
            fingerprint=report.fingerprint,
            n=report.n,
            correct=report.correct,
            preprocess=info.preprocess,
            args=msgspec.to_builtins(info.weights.args),
            command=report.command,
            versions=report.versions,
            cpu=hardware(torch.device("cpu")),
            device=report.device,
            dtype=report.dtype,
            measured=datetime.now(UTC).replace(microsecond=0),
        ),
        info.weights,
        report,
    )
