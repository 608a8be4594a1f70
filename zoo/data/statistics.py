"""The mean and spread of a data set's pixels."""

import torch
from torch import Tensor


def mean_and_std(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and population standard deviation of each channel of ``pixels`` uint8 N C H W.

    In units of [0, 1], exact up to the last division: computed from counts of the 256 values.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in pixels.unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256).cpu().double() / channel.numel()
        mean = (share * values).sum()
        means.append(float(mean))
        stds.append(float((share * (values - mean) ** 2).sum().sqrt()))
    return tuple(means), tuple(stds)
