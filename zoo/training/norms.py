"""Batch normalisation over several processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from zoo.errors import RecipeError
from zoo.system.distributed import Processes


def running_statistics(model: nn.Module) -> list[Tensor]:
    """The running means and variances of ``model``, which its own images move in each process."""
    norms = [module for module in model.modules() if isinstance(module, _NormBase)]
    held = [statistic for norm in norms for statistic in (norm.running_mean, norm.running_var)]
    return [statistic for statistic in held if statistic is not None]


@contextmanager
def sync_batch_norm(model: nn.Module, processes: Processes) -> Iterator[None]:
    """Within it, batch normalisation in training takes the statistics of the images of all ``processes``.

    As torch's SyncBatchNorm, which needs a GPU. All processes must run the same layers. Raises
    :class:`RecipeError` for a batch normalisation with additional computation.
    """
    norms = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    for name, norm in norms.items():
        if type(norm).forward is not _BatchNorm.forward:
            raise RecipeError(
                f"sync_norm: {name} is {type(norm).__name__}, expected standard batch normalisation.",
                hint="Remove sync_norm; then each process uses the statistics of its own images.",
            )
    for norm in norms.values():
        norm.forward = partial(_normalise, norm, processes)  # type: ignore[method-assign]  # taken back below
    try:
        yield
    finally:
        for norm in norms.values():
            del norm.forward


def _normalise(norm: _BatchNorm, processes: Processes, inputs: Tensor) -> Tensor:
    """``inputs`` B C ... normalised by the mean and variance of each channel over all processes."""
    if not norm.training:
        output: Tensor = _BatchNorm.forward(norm, inputs)
        return output
    wide = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
    axes = [0, *range(2, inputs.ndim)]
    shape = [1, -1, *[1] * (inputs.ndim - 2)]
    count = wide.new_tensor([inputs.numel() / inputs.shape[1]])
    sums = _sum(torch.cat([count, wide.sum(axes)]), processes)
    total, mean = sums[0], sums[1:] / sums[0]  # C
    centred = wide - mean.view(shape)
    variance = _sum(centred.square().sum(axes), processes) / total  # C
    _follow(norm, mean.detach(), (variance * total / (total - 1)).detach())
    scale = (variance + norm.eps).rsqrt()
    outputs = centred * (scale if norm.weight is None else scale * norm.weight).view(shape)
    if norm.bias is not None:
        outputs = outputs + norm.bias.view(shape)
    return outputs.to(inputs.dtype)


def _follow(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Moves the running statistics as ``nn.BatchNorm2d`` does."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked += 1
    factor = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, factor)
    norm.running_var.lerp_(variance, factor)


def _sum(values: Tensor, processes: Processes) -> Tensor:
    total: Tensor = _Sum.apply(values, processes)  # type: ignore[no-untyped-call]  # torch's stubs
    return total


class _Sum(torch.autograd.Function):
    """The sum over processes: what a value does to the losses of all, its gradient gathers from all."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        return processes.sum(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.processes.sum(gradient), None
