"""The first layer: frequencies of its filters, and dead filters."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo_look.first_layer import FirstLayer, find_first_layer
from zoo_look.network import name_of, opened
from zoo_look.result import Look, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DEAD = 0.05
"""A filter whose norm is less than this share of the layer's median has learnt nothing."""


@dataclass(frozen=True, eq=False)
class Diagnosis(Look):
    """The faults of a first layer, measured: ``energy`` float64 N 3 is the share of each filter's energy
    in low, middle and high frequencies, ``aliased`` N the share that the stride folds onto other frequencies,
    ``norms`` N the filters' norms. White noise has 6, 19 and 75%, as the bands' areas are.

    Bands go by the larger of the frequencies down and across, in cycles a pixel: low below 1/8, middle from
    there to 1/4, high from there to 1/2, the highest that pixels hold. With stride s the map holds frequencies
    up to 1 / (2 s) on each axis; the energy beyond is aliased. Zeiler and Fergus 2013, section 4.1, saw in
    AlexNet's 11x11 filters of stride 4 "a mix of extremely high and low frequency information", and dead ones.
    """

    energy: Tensor
    aliased: Tensor
    norms: Tensor
    stride: tuple[int, int]

    @property
    def dead(self) -> Tensor:
        """bool N: filters that hardly answer, of less than a twentieth of the median norm."""
        return self.norms < _DEAD * self.norms.median()

    def facts(self) -> dict[str, Any]:
        alive = ~self.dead
        low, middle, high = self.energy[alive].mean(0).tolist()
        return {
            "filters": len(self.norms),
            "stride": list(self.stride),
            "low": low,
            "middle": middle,
            "high": high,
            "extreme": low + high,
            "aliased": float(self.aliased[alive].mean()),
            "dead": int(self.dead.sum()),
        }

    def figure(self) -> "Figure":
        """Filters sorted by their middle frequencies, the three bands of each; and the mean."""
        figure = new_figure(6.5, 3.2, self.caption)
        axis = figure.subplots()
        alive = self.energy[~self.dead]
        ordered = alive[alive[:, 1].argsort()]
        places, floor = range(len(ordered)), torch.zeros(len(ordered), dtype=ordered.dtype)
        for band, name in enumerate(("low", "middle", "high")):
            mean = f"{name}: {float(alive[:, band].mean()):.0%}"
            axis.bar(places, ordered[:, band].tolist(), 1.0, floor.tolist(), label=mean)
            floor = floor + ordered[:, band]
        axis.set_xlabel(f"filters alive, {int(self.dead.sum())} dead left out")
        axis.set_ylabel("share of energy")
        axis.legend(fontsize=7, loc="upper left")
        return figure


def diagnose(model: str | nn.Module, **args: Any) -> Diagnosis:
    """Returns the energy of a first layer's filters by frequency, the share that its stride aliases, and dead filters.

    Args:
        model: A name, for which trained weights are used, or a network that :func:`zoo.create` returned.
        args: ``device``, and, if ``model`` is a name, ``weights`` and arguments of the family's build function.

    Returns:
        Energies, aliased shares and norms for each filter, with a figure.

    Raises:
        SpecError: The network has no convolution with learnt filters.

    Example:
        >>> import zoo
        >>> zoo.look.diagnose("resnet20.digits").energy.shape
        torch.Size([16, 3])
    """
    with opened(model, **args) as network:
        layer = find_first_layer(network)
        energy, aliased = frequencies(layer)
        height, width = layer.weight.shape[2:]
        caption = (
            f"{name_of(network)}, first layer: {height}x{width}, stride {layer.stride[0]}; "
            f"{float(aliased.mean()):.0%} of the energy is above the stride's Nyquist frequency"
        )
        return Diagnosis(caption, energy, aliased, layer.weight.double().flatten(1).norm(dim=1), layer.stride)


def frequencies(layer: FirstLayer) -> tuple[Tensor, Tensor]:
    """Shares of each filter's energy, float64: N 3 in low, middle and high frequencies, N aliased by the stride.

    The discrete Fourier transform of the kernel on 64 x 64 places, so that short kernels are resolved finely;
    channels are summed. A filter of zeros has shares of zero.
    """
    power = torch.fft.fft2(layer.weight.double().cpu(), s=(64, 64)).abs().square().sum(1)  # N 64 64
    axis = torch.fft.fftfreq(64, dtype=torch.float64).abs()  # cycles a pixel, 0 to 1/2
    down, across = axis[:, None], axis[None, :]
    radius = torch.maximum(down, across)
    total = power.sum((1, 2)).clamp_min(torch.finfo(torch.float64).tiny)
    bands = (radius < 1 / 8, (radius >= 1 / 8) & (radius < 1 / 4), radius >= 1 / 4)
    energy = torch.stack([(power * band).sum((1, 2)) / total for band in bands], 1)
    beyond = (down > 0.5 / layer.stride[0]) | (across > 0.5 / layer.stride[1])
    return energy, (power * beyond).sum((1, 2)) / total
