"""Averages of a network's weights during training: an exponential moving average, and Lookahead."""

import copy

import torch
from torch import Tensor, nn

from zoo.training.recipe import Lookahead


class _Follower:
    """A copy of ``model`` (``module``, in eval mode) whose parameters and buffers follow its own."""

    def __init__(self, model: nn.Module) -> None:
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        averages, values = self.module.state_dict(), model.state_dict(keep_vars=True)
        pairs = {id(value): (averages[key], value.detach()) for key, value in values.items()}.values()  # tied ones once
        self._floating = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    def _follow(self, decay: float) -> None:
        """average <- decay * average + (1 - decay) * model; integer buffers are copied."""
        averages: list[Tensor] = [average for average, _ in self._floating]
        torch._foreach_lerp_(averages, [value for _, value in self._floating], 1 - decay)
        for average, value in self._copied:
            average.copy_(value)


class EMA(_Follower):
    """An exponential moving average: average <- d * average + (1 - d) * model after every update.

    ``d`` rises as (1 + t) / (10 + t) to ``decay``, so that the first weights are soon forgotten.
    ``module`` is the network that holds the average.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model)
        self._decay = decay

    @torch.no_grad()
    def update(self, update: int) -> None:
        """Takes in the weights after update number ``update`` (from 0)."""
        self._follow(min(self._decay, (1 + update) / (10 + update)))


class LookaheadWeights(_Follower):
    """Lookahead: slow weights that follow the network's and replace them regularly.

    Every ``every`` updates slow <- d * slow + (1 - d) * model and model <- slow, where d rises as
    ``decay ** every * (t / updates) ** power``; after the last update model <- slow. Zhang et al.
    2019, arXiv 1907.08610, with d constant; the rising d is Jordan's, arXiv 2404.00498.
    """

    def __init__(self, model: nn.Module, settings: Lookahead, updates: int) -> None:
        super().__init__(model)
        self._settings = settings
        self._updates = updates

    @torch.no_grad()
    def update(self, update: int) -> None:
        """Follows and leads the weights after update number ``update`` (from 0)."""
        settings, done = self._settings, update + 1
        if done % settings.every == 0:
            self._follow(settings.decay**settings.every * (done / self._updates) ** settings.power)
            self._lead()
        if done == self._updates:
            self._lead()

    def _lead(self) -> None:
        for slow, value in self._floating:
            value.copy_(slow)
