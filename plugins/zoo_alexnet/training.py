"""The train hook: what Zoo's own does, with filters renormalised after each update where the network asks.

Zeiler, Fergus 2013, section 3.1: "renormalize each filter in the convolutional layers whose RMS value
exceeds a fixed radius of 10^-1 to this fixed radius".
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

import zoo.training as default
from zoo.training import Recipe, Run, TrainingData
from zoo_alexnet.model import AlexNet


def train(model: AlexNet, data: TrainingData, recipe: Recipe, run: Run, **options: Any) -> nn.Module:
    """Trains ``model`` in place and returns it; raises what ``zoo.training.train`` does.

    If ``model.filter_radius`` is not 0, each update ends with filters within it, before anything is
    averaged, scored or checkpointed. The filters that training starts from are left as they are.
    """
    with renormalizing(model, model.filter_radius):
        return default.train(model, data, recipe, run, **options)


@contextmanager
def renormalizing(model: nn.Module, radius: float) -> Iterator[None]:
    """Makes a context in which every optimizer's step ends by renormalizing the filters of ``model`` that it
    changes."""
    if not radius:
        yield
        return
    filters = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]

    def after_step(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        changed = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        for weight in filters:
            if id(weight) in changed:
                renormalize(weight, radius)

    handle = register_optimizer_step_post_hook(after_step)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def renormalize(weight: Tensor, radius: float) -> None:
    """Scales, in place, each filter of ``weight`` O I kH kW whose root mean square exceeds ``radius`` back to it."""
    weight.renorm_(2, 0, radius * weight[0].numel() ** 0.5)
