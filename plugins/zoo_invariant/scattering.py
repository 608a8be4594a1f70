"""Scattering networks: layers of wavelets and moduli that learn nothing, and a learnt classifier behind them.

Bruna, Mallat 2013, "Invariant Scattering Convolution Networks"; Oyallon, Belilovsky, Zagoruyko 2017,
"Scaling the Scattering Transform: Deep Hybrid Networks". Filters, padding and the order of
coefficients are kymatio's (Andreux et al. 2020), whose transform this one equals in fewer, larger steps.
"""

from functools import lru_cache, partial, reduce
from typing import Any

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import SpecError
from zoo_invariant.network import constant, full_precision, precision_of

ANGLES = 8
MAX_SIDE = 64
_PART = 16
"""Images at a time on a CPU: more no longer fit into its cache."""


class Scattering(nn.Module):
    """Scattering coefficients of order 0, 1 and 2 of images B C side side: B C*K side/2^J side/2^J.

    K = 1 + 8 J + 8^2 J (J - 1) / 2, of each channel: S0 = x * phi; S1 = |x * psi_1| * phi; S2 =
    ||x * psi_1| * psi_2| * phi, where psi are Morlet wavelets of 8 angles and J scales, psi_2 coarser than
    psi_1, and phi is a Gaussian of scale 2^J. All in float32: a sum of moduli has no bits to spare. Averaging
    is a matrix with one row per pixel, so images are small ones. Raises :class:`SpecError` for others.
    """

    phi0: Tensor

    def __init__(self, J: int, side: int) -> None:  # noqa: N803  # the papers' name
        if J < 1 or not 2 ** (J + 1) <= side <= MAX_SIDE:
            raise SpecError(
                f"J = {J} for images of {side} pixels: expected 1 at least, and 2^(J+1) to {MAX_SIDE} pixels."
            )
        super().__init__()
        self.J = J
        self.coefficients = _count(J)
        self.padding, constants = _constants(J, side)
        for name, value in constants.items():
            make = partial(torch.tensor, value, dtype=torch.float32)
            self.register_buffer(name, constant(make), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return scattered(x, self.J, self.padding, dict(self.named_buffers()))


@torch.fx.wrap  # a tracer knows neither type nor device
def scattered(x: Tensor, J: int, padding: list[int], constants: dict[str, Tensor]) -> Tensor:  # noqa: N803  # the papers' name
    """Computes :class:`Scattering`."""
    with full_precision(x):
        tracing = torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore[attr-defined, no-untyped-call]  # torch's
        if not tracing and len(x) == 0:  # there is no FFT of none
            places = x.shape[2] // 2**J
            return x.new_zeros(0, x.shape[1] * _count(J), places, places)
        maps = x.to(precision_of(constants["phi0"]))
        if x.device.type != "cpu" or torch.compiler.is_compiling():  # a loop would fix the number of images
            return _coefficients(maps, J, padding, constants).to(x.dtype)
        return torch.cat([_coefficients(part, J, padding, constants) for part in torch.split(maps, _PART)]).to(x.dtype)


def _coefficients(x: Tensor, scales: int, padding: list[int], constants: dict[str, Tensor]) -> Tensor:
    batch, chans, side, _ = x.shape

    def average(maps: Tensor, scale: int) -> Tensor:
        """Maps n m s s at 2^scale, against phi: n m places."""
        return maps.flatten(2) @ constants[f"phi{scale}"].to(maps.dtype)

    x = F.pad(x, padding, mode="reflect").flatten(0, 1)  # n S S with n = B C
    spectrum = _fourier(x)[:, None]  # n 1 S 2S
    orders: list[list[Tensor]] = [[average(x[:, None], 0)], [], []]
    for first in range(scales):
        maps = _modulus(spectrum, constants[f"psi{first}_0"], 2**first)  # n 8 S/2^j S/2^j
        orders[1].append(average(maps, first))
        if first + 1 < scales:
            finer = _fourier(maps)
            for angle in range(ANGLES):
                for second in range(first + 1, scales):
                    psi = constants[f"psi{second}_{first}"]
                    modulus = _modulus(finer[:, angle : angle + 1], psi, 2 ** (second - first))
                    orders[2].append(average(modulus, second))
    together = torch.cat([part for order in orders for part in order], dim=1)  # n K places
    places = side // 2**scales
    return together.view(batch, chans * together.shape[1], places, places)


def _count(scales: int) -> int:
    """Returns the number of coefficients of order 0, 1 and 2 of a channel."""
    return 1 + ANGLES * scales + ANGLES**2 * scales * (scales - 1) // 2


@lru_cache(maxsize=8)
def _constants(scales: int, side: int) -> tuple[list[int], dict[str, numpy.ndarray[Any, Any]]]:
    """Returns how images are padded, and by name: ``psi`` of each scale for maps of each finer one, ``phi`` of each.

    float64; computed once, since kymatio takes its time.
    """
    from kymatio.scattering2d.filter_bank import filter_bank
    from kymatio.scattering2d.utils import compute_padding

    padded, _ = compute_padding(side, side, scales)
    bank: Any = filter_bank(padded, padded, scales, ANGLES)
    constants = {}
    for scale in range(scales):
        wavelets = bank["psi"][ANGLES * scale : ANGLES * (scale + 1)]
        for finer in range(max(scale, 1)):
            values = numpy.stack([wavelet["levels"][finer] for wavelet in wavelets])
            constants[f"psi{scale}_{finer}"] = _spectrum(values)
        constants[f"phi{scale}"] = _averaging(bank["phi"]["levels"][scale], 2 ** (scales - scale))
    return [(padded - side) // 2, (padded - side + 1) // 2] * 2, constants


def _fourier(maps: Tensor) -> Tensor:
    """Returns the spectrum of real maps ... S S, its real and imaginary parts beside each other: ... S 2S."""
    return torch.view_as_real(torch.fft.fft2(maps)).flatten(-2)


def _modulus(spectrum: Tensor, psi: Tensor, step: int) -> Tensor:
    """Computes |x * psi| at every ``step``-th pixel, for x of ``spectrum`` n 1 S 2S and 8 filters: n 8 S/step
    S/step."""
    product = spectrum * psi.to(spectrum.dtype)
    if step > 1:  # what is sub-sampled is folded in the spectrum
        product = reduce(torch.add, product.chunk(step, dim=2))
        product = reduce(torch.add, product.chunk(step, dim=3))
    pairs = product.view(*product.shape[:3], -1, 2)  # n 8 s 2s -> n 8 s s 2
    filtered: Tensor = torch.fft.ifft2(torch.view_as_complex(pairs), norm="forward")
    return filtered.abs()


def _spectrum(psi: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
    """Filters 8 S S, real in the spectrum, as ``_modulus`` takes them: over the number of pixels, each value twice.

    8 S 2S: one axis more, and a change of memory format would take them for images.
    """
    twice: numpy.ndarray[Any, Any] = (psi / psi[0].size).repeat(2, axis=-1)
    return twice


def _averaging(phi: numpy.ndarray[Any, Any], step: int) -> numpy.ndarray[Any, Any]:
    """Returns S*S, places: what ``phi`` S S, real in the spectrum, makes of a pixel at every ``step``-th but the
    border's."""
    side = len(phi)
    pixels = numpy.eye(side**2).reshape(-1, side, side)
    averaged = numpy.fft.ifft2(numpy.fft.fft2(pixels) * phi).real[:, ::step, ::step]
    return averaged[:, 1:-1, 1:-1].reshape(side**2, -1)
