"""The train hook: Zoo's own, with a teacher that decides what each layer learns from."""

from typing import Any

from torch import nn

import zoo.training as default
from zoo.errors import RecipeError
from zoo.training import Recipe, Run, TrainingData
from zoo_targetprop.constants import Constants
from zoo_targetprop.model import Chain
from zoo_targetprop.rules import FeedbackAlignment, TargetPropagation


def train(model: Chain, data: TrainingData, recipe: Recipe, run: Run, **options: Any) -> nn.Module:
    """Trains ``model`` in place by its rule and returns it; raises what ``zoo.training.train`` does.

    Inverses and feedback weights, drawn anew, are part of the network and of its checkpoints for as long
    as this takes.
    """
    constants = recipe.read_hook_args(Constants)
    if model.rule == "backprop":
        return default.train(model, data, recipe, run, **options)
    if recipe.precision != "float32" or recipe.freeze or recipe.layer_decay != 1:
        raise RecipeError(
            f"{recipe.name}: {model.rule} needs precision = float32 and neither freeze nor layer_decay.",
            hint="--set precision=float32; or train by backpropagation: --arg rule=backprop.",
        )
    if model.rule == "dtp":
        teacher = TargetPropagation(model.hidden, step_size=constants.step_size, noise=constants.noise)
        options |= {"criterion": teacher.loss, "parameter_groups": parameter_groups}
        model.teacher = teacher
    else:
        model.teacher = FeedbackAlignment(model.hidden, model.get_classifier())
    try:
        return default.train(model, data, recipe, run, **options)
    finally:
        model.teacher = None


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Returns the layers, and their inverses, which learn at a lower rate."""
    layers = [value for name, value in model.named_parameters() if not name.startswith("teacher.")]
    inverses = [value for name, value in model.named_parameters() if name.startswith("teacher.")]
    inverse_lr = recipe.read_hook_args(Constants).inverse_lr
    decay = recipe.weight_decay
    return [
        {"params": layers, "weight_decay": decay},
        {"params": inverses, "lr_scale": inverse_lr, "weight_decay": decay},
    ]
