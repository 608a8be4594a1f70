"""An exponential moving average of a network's parameters and buffers."""

import copy

import torch
from torch import Tensor, nn


class Average:
    """Follows ``model``: average <- d * average + (1 - d) * model after every update.

    ``d`` rises as (1 + t) / (10 + t) to ``decay``, so that the first weights are soon forgotten.
    Integer buffers are copied. ``module`` is the network that holds the average, in eval mode.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay
        pairs = list(zip(self.module.state_dict().values(), model.state_dict().values(), strict=True))
        self._floating = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, update: int) -> None:
        """Takes in the weights after update number ``update`` (from 0)."""
        decay = min(self._decay, (1 + update) / (10 + update))
        averages: list[Tensor] = [average for average, _ in self._floating]
        torch._foreach_lerp_(averages, [value for _, value in self._floating], 1 - decay)
        for average, value in self._copied:
            average.copy_(value)
