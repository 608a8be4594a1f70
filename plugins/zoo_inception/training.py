"""The train hook: what Zoo's own does, with auxiliary classifiers while it lasts, and RMSProp as the papers have it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

import zoo.training as default
from zoo.errors import RecipeError
from zoo.training import Recipe, Run, TrainingData

RMSPROP = "rmsproptf"
"""timm's RMSProp as TensorFlow computes it: epsilon under the root, squares that begin at 1."""
RMSPROP_EPS = 1.0
"""Szegedy et al. 2015, section 8. It all but makes RMSProp momentum."""


def train(model: nn.Module, data: TrainingData, recipe: Recipe, run: Run, **options: Any) -> nn.Module:
    """Trains ``model`` in place and returns it; raises what ``zoo.training.train`` does.

    A network that can have auxiliary classifiers gets them for as long as this takes, unless it has its own.
    """
    with auxiliary_heads(model):
        return train_as_built(model, data, recipe, run, **options)


def train_as_built(model: nn.Module, data: TrainingData, recipe: Recipe, run: Run, **options: Any) -> nn.Module:
    """Trains as :func:`train`, with those auxiliary classifiers alone that ``model`` was built with."""
    if recipe.optimizer == RMSPROP and recipe.layer_decay != 1:
        raise RecipeError(f"{recipe.name}: layer_decay and {RMSPROP} of this family do not go together.")
    loss = criterion(getattr(model, "aux_weight", 0.0), recipe.label_smoothing)
    groups = rmsprop_groups if recipe.optimizer == RMSPROP else None
    return default.train(model, data, recipe, run, criterion=loss, parameter_groups=groups, **options)


@contextmanager
def auxiliary_heads(model: Any) -> Iterator[None]:
    """Makes a context in which ``model`` has its auxiliary classifiers, if it can have any; those it had before, it
    keeps."""
    is_without = hasattr(model, "add_auxiliary_heads") and not model.has_auxiliary_heads
    if is_without:
        model.add_auxiliary_heads()
    try:
        yield
    finally:
        if is_without:
            model.drop_auxiliary_heads()


def criterion(aux_weight: float, label_smoothing: float) -> Callable[[Tensor | tuple[Tensor, ...], Tensor], Tensor]:
    """Returns the loss of an output: cross-entropy of the logits, and ``aux_weight`` times that of each auxiliary
    classifier's.

    All see the same labels, smoothed alike.
    """
    cross_entropy = nn.CrossEntropyLoss(label_smoothing=label_smoothing)

    def loss(output: Tensor | tuple[Tensor, ...], labels: Tensor) -> Tensor:
        logits, *others = (output,) if isinstance(output, Tensor) else output
        total: Tensor = cross_entropy(logits, labels)
        for other in others:
            total = total + aux_weight * cross_entropy(other, labels)
        return total

    return loss


def rmsprop_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Returns what decays and, where the recipe says so, biases and norms apart, which do not; all with
    ``RMSPROP_EPS``.
    """
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if recipe.decay_norm_and_bias:
        return [{"params": learning, "weight_decay": recipe.weight_decay, "eps": RMSPROP_EPS}]
    filters = [parameter for parameter in learning if parameter.ndim > 1]
    others = [parameter for parameter in learning if parameter.ndim <= 1]
    return [
        {"params": filters, "weight_decay": recipe.weight_decay, "eps": RMSPROP_EPS},
        {"params": others, "weight_decay": 0.0, "eps": RMSPROP_EPS},
    ]
