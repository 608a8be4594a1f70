"""The Gabor filter bank, which looking at networks shares: see :mod:`zoo.modules.gabor`."""

from zoo.modules.gabor import bank, gabor_filter, sigma_of

__all__ = ["bank", "gabor_filter", "sigma_of"]
