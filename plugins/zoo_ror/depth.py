"""Stochastic depth: residual branches that take part in an update by chance.

Huang, Sun, Liu, Sedra, Weinberger 2016, "Deep Networks with Stochastic Depth", equations 2 to 5.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.errors import SpecError

DrawnPer = Literal["batch", "sample"]


class StochasticDepth(nn.Module):
    """Adds a branch to a shortcut; in training the branch survives with probability ``survival``.

    Drawn per ``batch``, as published: the branch of all images takes part or is not even computed, and
    in evaluation it is multiplied by ``survival``. Per ``sample``, as timm and torchvision do: each
    image's is kept or not, what is kept is divided by ``survival``, and evaluation changes nothing. Both
    have the same expectation. Draws are made by torch's generator of the CPU.
    """

    def __init__(self, survival: float, drawn_per: DrawnPer) -> None:
        super().__init__()
        self.survival = survival
        self.drawn_per = drawn_per

    def forward(self, shortcut: Tensor, branch: nn.Module, x: Tensor) -> Tensor:
        """Returns ``shortcut`` B C h w plus ``branch(x)``, or plus 0 if the branch is dropped."""
        if self.training and self.drawn_per == "batch" and not self._draw(1):
            skip: Callable[..., Tensor] = _Skip.apply
            return skip(shortcut, *branch.parameters())
        residual: Tensor = branch(x)
        if self.survival < 1 and self.training and self.drawn_per == "sample":
            kept = self._draw(x.shape[0])[:, None, None, None]  # B 1 1 1
            residual = residual * (kept.to(residual) / self.survival)
        elif self.survival < 1 and not self.training and self.drawn_per == "batch":
            residual = residual * self.survival
        return shortcut + residual

    def _draw(self, count: int) -> Tensor:
        """Returns whether each of ``count`` branches survives, bool."""
        if self.survival == 1:
            return torch.ones(count, dtype=torch.bool, device="cpu")
        return torch.rand(count, device="cpu") < self.survival

    def extra_repr(self) -> str:
        return f"survival={self.survival:g}, drawn_per={self.drawn_per!r}"


class _Skip(torch.autograd.Function):
    """Its first argument; the others get a gradient of zero, so that they still decay and keep their momentum.

    As in the authors' Torch file, where an update concerns all parameters whatever took part.
    """

    @staticmethod
    def forward(ctx: Any, shortcut: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(*parameters)
        return shortcut.view_as(shortcut)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return *gradients, *map(torch.zeros_like, ctx.saved_tensors)


def linear_survival(units: int, last: float) -> list[float]:
    """Computes p_l = 1 - l / L (1 - p_L) for l = 1, ..., L units: nearly 1 for the first, ``last`` for the last.

    Raises :class:`SpecError` if ``last`` is not in (0, 1].
    """
    if not 0 < last <= 1:
        raise SpecError(f"survival = {last} must be in (0, 1]: it is a probability.")
    return [1 - unit / units * (1 - last) for unit in range(1, units + 1)]
