"""Which parameters learn, and how fast."""

from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from zoo.errors import RecipeError
from zoo.training.recipe import Recipe


def freeze(model: nn.Module, patterns: tuple[str, ...]) -> list[nn.Module]:
    """Takes the submodules that ``patterns`` name from learning; returns them, to be kept in eval mode.

    ``backbone`` stands for every submodule outside the model's declared head. Raises
    :class:`RecipeError` for a pattern that names nothing, or where nothing is left to learn.
    """
    frozen: dict[str, nn.Module] = {}
    names = {name: module for name, module in model.named_modules() if name}
    for pattern in patterns:
        chosen = _outside_head(model) if pattern == "backbone" else [n for n in names if fnmatchcase(n, pattern)]
        if not chosen:
            raise RecipeError(f"freeze = {pattern!r} names no submodule.", hint=f"There are {', '.join(names)}.")
        frozen |= {name: names[name] for name in chosen}
    for module in frozen.values():
        module.requires_grad_(False)
    return list(frozen.values())


def by_layer(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]] | None:
    """Groups whose learning rate falls by ``recipe.layer_decay`` a stage from the head down; None where it is 1."""
    if recipe.layer_decay == 1:
        return None
    raise NotImplementedError


def _outside_head(model: nn.Module) -> list[str]:
    raise NotImplementedError
