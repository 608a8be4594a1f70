"""Seeded values: noise, and networks that have some in every tensor, as if they were trained."""

from typing import Any

import torch
from torch import Tensor, nn


def noise(*shape: int, seed: int = 0, **options: Any) -> Tensor:
    """Returns numbers of mean 0 and variance 1."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), **options)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    """Returns numbers between 0 and 1."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def fill(module: nn.Module) -> nn.Module:
    """Returns ``module`` in evaluation mode; no scale is so small that it hides what it scales."""
    generator = torch.Generator().manual_seed(0)
    for key, tensor in module.eval().state_dict().items():
        if not tensor.is_floating_point():
            continue
        if key.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.ndim < 2:
            centre = 1.0 if key.endswith(("weight", "gamma")) else 0.0
            tensor.uniform_(centre - 0.3, centre + 0.3, generator=generator)
        else:
            bound = (6 / tensor[0].numel()) ** 0.5  # He's
            tensor.uniform_(-bound, bound, generator=generator)
    return module
