"""The train hook of networks with a spatial transformer: it may learn at a rate of its own."""

from typing import Any

from torch import nn

import zoo.training as default
from zoo.errors import RecipeError
from zoo.training import Recipe, Run, TrainingData
from zoo_invariant.transformer import STN


def train(model: STN, data: TrainingData, recipe: Recipe, run: Run, **options: Any) -> nn.Module:
    """Trains ``model`` in place and returns it; raises what ``zoo.training.train`` does."""
    has_own_rate = model.localisation_lr != 1
    if has_own_rate and recipe.layer_decay != 1:
        raise RecipeError(
            f"{recipe.name}: localisation_lr = {model.localisation_lr} and layer_decay = {recipe.layer_decay} "
            "both say how fast the transformer learns.",
            hint="Leave layer_decay out.",
        )
    groups = parameter_groups if has_own_rate else None
    return default.train(model, data, recipe, run, parameter_groups=groups, **options)


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Returns what learns outside the transformer, then its own at ``model.localisation_lr``; each with and without
    decay.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = recipe.decay_norm_and_bias or parameter.ndim > 1
            groups.setdefault((name.startswith("transformer."), decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr_scale": model.localisation_lr if is_inside else 1.0,
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for (is_inside, decays), parameters in sorted(groups.items(), key=lambda group: group[0])
    ]
