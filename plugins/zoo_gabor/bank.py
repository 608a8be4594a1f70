"""The Gabor filter bank, which looking at networks shares: see :mod:`zoo.look.wavelets`."""

from zoo.look.wavelets import bank, gabor, sigma_of

__all__ = ["bank", "gabor", "sigma_of"]
