"""The train hook: Zoo's own, with a teacher that decides what each layer learns from."""

from typing import Any

import torch
from torch import nn

import zoo.training as default
from zoo.errors import RecipeError
from zoo.spec import Preprocess
from zoo.training import Recipe, Run, TrainingData
from zoo_targetprop.model import Chain
from zoo_targetprop.rules import FeedbackAlignment, TargetPropagation

STEP_SIZE = 0.3277
"""Of the last hidden layer's target: all constants are those of the authors' program (donghyunlee/dtp)."""
NOISE = 0.360
INVERSE_RATE = 0.00501 / 0.01489
"""Learning rate of the inverses over that of the layers."""
RMSPROP = {"alpha": 0.95, "eps": 1e-2, "centered": True}
"""Its stabiliser of 1e-4 under the root is an epsilon of 1e-2 outside of it."""


def train(
    model: Chain,
    data: TrainingData,
    recipe: Recipe,
    run: Run,
    *,
    preprocess: Preprocess,
    device: torch.device | str | None = None,
) -> nn.Module:
    """Trains ``model`` in place by its rule and returns it; raises what ``zoo.training.train`` does.

    Inverses and feedback weights, drawn anew, are part of the network and of its checkpoints for as long
    as this takes.
    """
    if model.rule == "backprop":
        return default.train(model, data, recipe, run, preprocess=preprocess, device=device)
    if recipe.precision != "float32" or recipe.freeze or recipe.layer_decay != 1:
        raise RecipeError(
            f"{recipe.name}: {model.rule} needs precision = float32 and neither freeze nor layer_decay.",
            hint="--set precision=float32; or train by backpropagation: --arg rule=backprop.",
        )
    options: dict[str, Any] = {"preprocess": preprocess, "device": device}
    if model.rule == "dtp":
        teacher = TargetPropagation(model.hidden, step_size=STEP_SIZE, noise=NOISE)
        options |= {"criterion": teacher.loss, "parameter_groups": parameter_groups}
        model.teacher = teacher
    else:
        model.teacher = FeedbackAlignment(model.hidden, model.fc)
    try:
        return default.train(model, data, recipe, run, **options)
    finally:
        model.teacher = None


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """The layers, and their inverses, which learn at a lower rate."""
    layers = [value for name, value in model.named_parameters() if not name.startswith("teacher.")]
    inverses = [value for name, value in model.named_parameters() if name.startswith("teacher.")]
    own = {"weight_decay": recipe.weight_decay, **(RMSPROP if recipe.optimizer == "rmsprop" else {})}
    return [{"params": layers, **own}, {"params": inverses, "lr_scale": INVERSE_RATE, **own}]
