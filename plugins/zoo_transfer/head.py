"""A linear classifier of a network's features as the head of this network."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import DataError, RecipeError, SpecError
from zoo.loading import Network
from zoo.loading.create import create_trained, info_of, save
from zoo_transfer.extraction import Features, state_hash

LINEAR = ("linear_svm", "logistic")
"""Classifiers that are heads. An SVM's margins are no log-probabilities: only their order means a thing."""

_NEVER = -1e4
"""The logit of a class without images to learn from."""


def require_linear(classifier: str) -> None:
    """Raises :class:`SpecError` unless ``classifier`` can be a head."""
    if classifier not in LINEAR:
        raise SpecError(f"{classifier} is not linear, so it cannot be a head: expected {' or '.join(LINEAR)}.")


def with_head(train: Features, estimator: Any) -> Network:
    """Returns the network that computed the features ``train``, with the head that ``estimator`` is.

    Raises :class:`DataError` if the network is another one now, or the features are not the input of its head.
    """
    origin = train.origin
    if origin.layer:
        raise DataError(
            f"The features are those of {origin.layer}, not the input of the head.", hint="Leave out --layer."
        )
    network = create_trained(origin.weights or origin.model)
    if state_hash(network) != origin.network:
        raise DataError(f"{origin.weights or origin.model} is not the network that computed the features.")
    info, count = info_of(network), len(origin.classes)
    network.reset_classifier(count)
    head = network.get_classifier()
    if not isinstance(head, nn.Linear) or head.in_features != train.features.shape[1] or head.bias is None:
        raise RecipeError(f"The head of {info.model.name} is not one linear layer with a bias.")
    weight, bias = _linear(estimator, count)
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    network.zoo_info = info._replace(
        weights=None, file=None, classes=origin.data, class_names=origin.classes, name=info.model.name
    )
    return network.eval()


def _linear(estimator: Any, count: int) -> tuple[Tensor, Tensor]:
    """Returns weight, K D, and bias, K, that make of features what ``estimator`` makes of them once standardised."""
    scaler, linear = (step for _, step in estimator.steps)
    weight, bias = (torch.from_numpy(values).double() for values in (linear.coef_, linear.intercept_))
    if len(linear.classes_) == 2:  # one decision, whose sign tells two classes
        weight, bias = (torch.stack([-values[0] / 2, values[0] / 2]) for values in (weight, bias))
    if scaler.with_std:
        weight = weight / torch.from_numpy(scaler.scale_)
    if scaler.with_mean:
        bias = bias - weight @ torch.from_numpy(scaler.mean_)
    every, offsets = weight.new_zeros(count, weight.shape[1]), bias.new_full((count,), _NEVER)
    every[linear.classes_], offsets[linear.classes_] = weight, bias
    return every, offsets


def write(network: Network, folder: Path, train: Features, classifier: str, settings: dict[str, Any]) -> Path:
    """Writes ``network`` to ``folder``, which is then a name of it: ``zoo predict FOLDER``. Returns the file."""
    origin = train.origin
    chosen = ", ".join(f"{key}={value}" for key, value in settings.items())
    where = f"{origin.data}/{origin.split}"
    start = Path(origin.weights).name if "/" in origin.weights else origin.weights
    file = folder / "model.safetensors"
    save(network, file, origin=f"{classifier} ({chosen}) fitted by zoo classify to {start or origin.model} on {where}")
    return file
