"""Parameter groups: which parameters are trained, and their learning rates."""

from collections.abc import Collection
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from zoo.errors import RecipeError
from zoo.modules.network import lies_in, parameter_levels
from zoo.spec import Model
from zoo.training.recipe import Recipe

BACKBONE = "backbone"
"""In ``freeze``: everything but the declared head."""


def freeze(model: nn.Module, patterns: tuple[str, ...]) -> list[nn.Module]:
    """Freezes the parts that match ``patterns``; returns the submodules among them, to keep them in eval mode.

    A pattern is the name of a submodule or parameter, a shell pattern of such names, or ``backbone`` for everything
    outside the model's declared head. Raises :class:`RecipeError` for a pattern without match, or if all parameters
    would be frozen.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    chosen: set[str] = set()
    for pattern in patterns:
        named = {name for name in (*modules, *parameters) if fnmatchcase(name, pattern)}
        met = _outside_head(model) if pattern == BACKBONE else named
        if not met:
            raise _names_nothing(pattern, model, [*modules, *parameters])
        chosen |= met
    frozen = [module for name, module in modules.items() if name in chosen]
    for learned in (*frozen, *(parameters[name] for name in chosen & parameters.keys())):
        learned.requires_grad_(False)
    if patterns and not any(parameter.requires_grad for parameter in parameters.values()):
        raise RecipeError(
            f"freeze = {list(patterns)} freezes all parameters.",
            hint=f"--freeze {BACKBONE} freezes all but the head (freeze = [{BACKBONE!r}]).",
        )
    return frozen


def by_layer(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]] | None:
    """Groups whose learning rate falls by ``recipe.layer_decay`` per stage from the head down; None if it is 1.

    The schedule multiplies its rate by a group's ``lr_scale``. As in timm, parameters in the network's
    ``no_weight_decay()`` do not decay, nor do biases and norms if the recipe excludes them.
    """
    if recipe.layer_decay == 1:
        return None
    levels = _levels(model)
    top = max(levels.values(), default=0)
    exempt: Collection[str] = getattr(model, "no_weight_decay", set)()
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_small = parameter.ndim <= 1 or name.endswith(".bias")
            decays = (recipe.decay_norm_and_bias or not is_small) and not any(fnmatchcase(name, p) for p in exempt)
            groups.setdefault((top - levels[name], decays), []).append(parameter)
    # The head's comes first: the log shows the first group's rate.
    return [
        {
            "params": groups[depth, decays],
            "lr_scale": recipe.layer_decay**depth,
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for depth, decays in sorted(groups)
    ]


def _levels(model: nn.Module) -> dict[str, int]:
    """The stage of each parameter as a number: 0 for the stem, the highest for the head."""
    row = _row(model, "layer_decay")
    if not row.stages:
        raise RecipeError(f"layer_decay: {row.name} declares no stages.", hint="Set layer_decay to 1.")
    levels = parameter_levels(model, row.stages, stem=row.stem, head=row.head)
    return {name: stage for name, (stage, _) in levels.items()}


def _outside_head(model: nn.Module) -> set[str]:
    """Parameters outside the declared head, and submodules that do not contain any of it."""
    head = _row(model, f"freeze = {BACKBONE!r}").head
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    modules = {name for name, _ in model.named_modules() if name}
    modules -= {name for name in modules if any(lies_in(part, name) for part in head)}
    return {name for name in parameters | modules if not any(lies_in(name, part) for part in head)}


def _row(model: nn.Module, wish: str) -> Model:
    """The plugin's row of ``model``."""
    info = getattr(model, "zoo_info", None)
    if info is None:
        raise RecipeError(
            f"{wish} needs the head and stages of the model, but this {type(model).__name__} was not created by Zoo.",
            hint="Create it with zoo.create, or name its submodules (freeze) or its groups (parameter_groups).",
        )
    row: Model = info.model
    return row


def _names_nothing(pattern: str, model: nn.Module, names: list[str]) -> RecipeError:
    near = get_close_matches(pattern, [BACKBONE, *names], n=3)
    parts = ", ".join([BACKBONE, *(name for name, _ in model.named_children())])
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Available: {parts} and their submodules."
    return RecipeError(f"freeze = {pattern!r} does not match any part of this {type(model).__name__}.", hint=hint)
