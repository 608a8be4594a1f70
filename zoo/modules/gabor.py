"""Gabor filters: a Gaussian times a wave, the model of simple cells in the primary visual cortex.

Gabor 1946; in two dimensions Daugman 1985, "Uncertainty relation for resolution in space, spatial
frequency, and orientation", J. Opt. Soc. Am. A 2(7). With x' = x cos t + y sin t, y' = -x sin t + y cos t::

    g(x, y) = exp(-(x'^2 + gamma^2 y'^2) / (2 sigma^2)) cos(2 pi x' / wavelength + phase)

x points right and y down, in pixels from the kernel's centre.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from zoo.errors import SpecError

Part = Literal["even", "odd", "complex"]


def sigma_of(wavelength: float, bandwidth: float = 1.0) -> float:
    """Returns the sigma, in pixels, at which a filter's half-response ``bandwidth`` is that many octaves.

    About 0.56 of the wavelength for one octave.
    """
    return wavelength / math.pi * math.sqrt(math.log(2) / 2) * (2**bandwidth + 1) / (2**bandwidth - 1)


def gabor_filter(
    wavelength: float,
    orientation: float,
    *,
    phase: float = 0.0,
    sigma: float | None = None,
    gamma: float = 0.5,
    size: int | None = None,
    part: Part = "even",
    remove_dc: bool = False,
) -> Tensor:
    """Returns one filter, float64 ``size size`` (complex128 if ``part`` is complex).

    ``wavelength`` and ``sigma`` are in pixels, ``orientation`` and ``phase`` in radians. The orientation is
    that of the wave, across its stripes: 0 makes upright ones. ``gamma`` is the Gaussian's width over its
    length. ``sigma`` is by default that of one octave, ``size`` the odd number that holds three
    standard deviations to every side.

    ``part``: ``even`` has the wave's cosine, ``odd`` its sine, ``complex`` both, as even + i odd.
    ``remove_dc`` subtracts as much of the Gaussian as makes the filter's sum 0, so that it is blind to
    brightness and still ends in 0 (a Morlet wavelet). Raises :class:`SpecError` for lengths that are not positive.

    The same filter elsewhere: ``cv2.getGaborKernel((size, size), sigma, orientation, wavelength, gamma, -phase)``,
    whose axes run left and up and whose default phase is pi/2; ``skimage.filters.gabor_kernel(1 / wavelength,
    orientation, sigma_x=sigma, sigma_y=sigma / gamma, offset=phase)``, divided by 2 pi sigma_x sigma_y.
    """
    sigma = sigma_of(wavelength) if sigma is None else sigma
    for name, value in (("wavelength", wavelength), ("sigma", sigma), ("gamma", gamma)):
        if not (math.isfinite(value) and value > 0):
            raise SpecError(f"{name} = {value!r} must be positive and finite.")
    if part not in get_args(Part):
        raise SpecError(f"part = {part!r} is not one of {', '.join(map(repr, get_args(Part)))}.")
    size = 2 * math.ceil(3 * sigma / min(gamma, 1.0)) + 1 if size is None else size
    if size < 1:
        raise SpecError(f"size = {size!r}: expected at least one pixel.")
    along, across = rotated(pixels(size), torch.tensor(orientation, dtype=torch.float64))
    envelope = torch.exp(-(along**2 + (gamma * across) ** 2) / (2 * sigma**2))
    angle = 2 * math.pi * along / wavelength + phase
    wave = torch.complex(angle.cos(), angle.sin())
    if remove_dc:
        wave = wave - (envelope * wave).sum() / envelope.sum()
    wavelet = envelope * wave
    return wavelet if part == "complex" else wavelet.real if part == "even" else wavelet.imag


def bank(wavelengths: Sequence[float], orientations: int, **options: Any) -> Tensor:
    """Filters of all ``wavelengths`` (pixels) and of ``orientations`` spread evenly over pi.

    Wavelengths first: ``W U size size``, all of the size that the largest needs unless ``size`` is given.
    ``options`` are those of :func:`gabor`. Raises :class:`SpecError`.
    """
    if not wavelengths or orientations < 1:
        raise SpecError(
            f"wavelengths = {list(wavelengths)}, orientations = {orientations}: expected at least one of each."
        )
    if options.get("size") is None:
        options = {**options, "size": max(gabor_filter(length, 0.0, **options).shape[0] for length in wavelengths)}
    angles = [math.pi * index / orientations for index in range(orientations)]
    return torch.stack(
        [torch.stack([gabor_filter(length, angle, **options) for angle in angles]) for length in wavelengths]
    )


def pixels(height: int, width: int | None = None) -> tuple[Tensor, Tensor]:
    """Returns x and y of each pixel from the centre, float64 ``height width`` both."""
    rows, columns = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2 for side in (height, width or height))
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return x, y


def rotated(place: tuple[Tensor, Tensor], orientation: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates along a wave of this ``orientation``, in radians, and across."""
    x, y = place
    cos, sin = orientation.cos(), orientation.sin()
    return x * cos + y * sin, y * cos - x * sin
