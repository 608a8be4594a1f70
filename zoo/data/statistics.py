"""Mean and standard deviation of a data set's pixels."""

import torch
from torch import Tensor


def mean_and_std(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and the population standard deviation of each channel, in units of [0, 1].

    They are computed from counts of the 256 values, exact up to the last division.

    Args:
        pixels: uint8 N C H W.

    Returns:
        The means and the standard deviations, a number for each channel.

    Example:
        >>> import zoo
        >>> means, stds = zoo.data.mean_and_std(zoo.data.load("digits").pixels)
        >>> round(means[0], 3), round(stds[0], 3)
        (0.306, 0.376)
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in pixels.unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256).cpu().double() / channel.numel()
        mean = (share * values).sum()
        means.append(float(mean))
        stds.append(float((share * (values - mean) ** 2).sum().sqrt()))
    return tuple(means), tuple(stds)
