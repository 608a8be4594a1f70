"""Optimiser and learning-rate schedule, from timm's factories."""

from typing import Any

import torch
from torch import nn

from zoo.errors import MissingExtraError, RecipeError
from zoo.training.recipe import Recipe


class Schedule:
    """The learning rate of each update, a function of its number, so that there is no state to store."""

    def __init__(self, scheduler: Any, optimizer: torch.optim.Optimizer) -> None:
        self._scheduler = scheduler
        self._optimizer = optimizer

    def set(self, update: int) -> float:
        """Sets the learning rate of update number ``update`` (from 0) and returns it."""
        self._scheduler.step_update(update)
        return float(self._optimizer.param_groups[0]["lr"])


def optimizer(model: nn.Module, recipe: Recipe, groups: list[dict[str, Any]] | None = None) -> torch.optim.Optimizer:
    """The optimiser of ``recipe`` for ``groups``, by default the parameters of ``model`` that require a gradient."""
    try:
        from timm.optim import create_optimizer_v2
    except ImportError:
        raise MissingExtraError.of("Training", "timm", "zoo-vision[train]") from None
    name = recipe.optimizer
    if name == "sgd" and not (recipe.nesterov and recipe.momentum):
        name = "momentum"  # timm's name of SGD without Nesterov
    arguments: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "momentum": recipe.momentum}
    if recipe.optimizer in ("sgd", "adam", "adamw"):
        arguments["fused"] = True
    arguments |= recipe.optimizer_args
    try:
        made: torch.optim.Optimizer = create_optimizer_v2(
            groups or model, opt=name, filter_bias_and_bn=not recipe.decay_norm_and_bias, **arguments
        )
    except (ValueError, TypeError) as error:
        raise RecipeError(f"Optimiser {recipe.optimizer!r}: {error}", hint=_near(recipe.optimizer)) from None
    if recipe.optimizer == "sgd" and recipe.momentum:
        _start_momentum(made)
    return made


def _start_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Initialises momentum with zeros, which is its initial value anyway.

    torch creates it with a parameter's first gradient, and its fused SGD fails if some parameters get theirs later than
    others, as in networks with drop-path.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def create_schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, updates_per_epoch: int) -> Schedule:
    """The schedule of ``recipe``, stepped after every update."""
    from timm.scheduler import create_scheduler_v2

    warmup: dict[str, Any] = {"warmup_epochs": recipe.warmup_epochs, "warmup_lr": recipe.warmup_lr}
    falling = {"num_epochs": recipe.epochs - recipe.warmup_epochs, "min_lr": recipe.min_lr, "warmup_prefix": True}
    match recipe.schedule:
        case "cosine":
            arguments = {"sched": "cosine", **falling}
        case "linear":
            arguments = {"sched": "poly", "decay_rate": 1.0, **falling}
        case "step":
            # A hair less: 1.1 epochs of 50 updates are 55.00000000000001 in floats, and end before update 55.
            interval = recipe.decay_epochs[0] * (1 - 1e-12)
            arguments = {"sched": "step", "decay_epochs": interval, "decay_rate": recipe.decay_rate}
        case "multistep":
            # timm falls one update before the milestone; half an update more makes it fall on it.
            milestones = [epoch + 0.5 / updates_per_epoch for epoch in recipe.decay_epochs]
            arguments = {"sched": "multistep", "decay_milestones": milestones, "decay_rate": recipe.decay_rate}
        case "constant":
            arguments = {"sched": "step", "decay_epochs": 1, "decay_rate": 1.0}  # older timm has no other
    scheduler, _ = create_scheduler_v2(
        optimizer,
        **{"num_epochs": recipe.epochs, **arguments, **warmup},
        step_on_epochs=False,
        updates_per_epoch=updates_per_epoch,
    )
    return Schedule(scheduler, optimizer)


def _near(name: str) -> str:
    from difflib import get_close_matches

    from timm.optim import list_optimizers

    near = get_close_matches(name, list_optimizers(), n=3)
    return f"Did you mean {' or '.join(near)}?" if near else "timm.optim.list_optimizers() lists them."
