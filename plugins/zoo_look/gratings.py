"""How the units of a layer respond to gratings: stripes of one orientation and wavelength.

The central unit of each channel, as an electrode at one cell; Hubel and Wiesel, "Receptive fields, binocular
interaction and functional architecture in the cat's visual cortex", 1962, moved bars instead.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.evaluation.forward import device_of
from zoo.loading import Network
from zoo.modules.gabor import pixels, rotated
from zoo_look.network import blank, statistics
from zoo_look.units import maps_of, reached

ORIENTATIONS = 8
_WAVELENGTHS = 5
_PHASES = 4
_SHORTEST = 3.0
"""Pixels: a wave of two has only the phases on and off."""


@dataclass(frozen=True, eq=False)
class Tuning:
    """Of C channels, what each grating adds to the response to a grey image: ``responses`` float32 C F O.

    The strongest of four phases, for F ``wavelengths`` in pixels and O ``orientations`` in degrees: the direction in
    which the wave changes, so that 0 means upright stripes.
    """

    wavelengths: tuple[float, ...]
    orientations: tuple[float, ...]
    responses: Tensor

    def best(self, channel: int) -> tuple[float, float] | None:
        """Wavelength and orientation of the strongest response; None if no grating adds anything."""
        own = self.responses[channel]
        if not own.max() > 0:
            return None
        row, place = divmod(int(own.argmax()), len(self.orientations))
        return self.wavelengths[row], self.orientations[place]

    def selectivity(self, channel: int) -> float:
        """From 0, the same response to all orientations, to 1, a response to one: 1 minus the circular variance.

        At the wavelength with the strongest response.
        """
        own = self.responses[channel].clamp(min=0)
        row = own[own.amax(1).argmax()].double()
        angles = 2 * torch.tensor(self.orientations, dtype=torch.float64).deg2rad()
        return float(torch.hypot(row @ angles.cos(), row @ angles.sin()) / row.sum()) if row.sum() > 0 else 0.0


def tuning(network: Network, layer: str, batch_size: int = 64) -> Tuning:
    """The responses of the channels of ``layer`` to gratings between black and white."""
    height, width = blank(network).shape[2:]
    longest = max(min(height, width) / 2, 2 * _SHORTEST)
    wavelengths = [_SHORTEST * (longest / _SHORTEST) ** (step / (_WAVELENGTHS - 1)) for step in range(_WAVELENGTHS)]
    orientations = [step * 180 / ORIENTATIONS for step in range(ORIENTATIONS)]
    place = pixels(height, width)
    phases = torch.arange(_PHASES, dtype=torch.float64)[:, None, None] * (2 * math.pi / _PHASES)
    gratings = torch.stack(
        [
            0.5 + 0.5 * torch.cos(2 * math.pi * rotated(place, torch.tensor(math.radians(angle)))[0] / length + phases)
            for length in wavelengths
            for angle in orientations
        ]
    )  # F O, phases, H, W
    mean, std = (torch.tensor(values)[:, None, None] for values in statistics(network))
    images = (gratings.flatten(0, 1).float()[:, None] - mean) / std
    grey = (torch.full((1, 1, height, width), 0.5) - mean) / std
    parts = torch.split(torch.cat([grey, images]), batch_size)
    with reached(network, layer) as run, torch.no_grad():
        found = torch.cat([_central(run(part.to(device_of(network))), layer) for part in parts])
    added = (found[1:] - found[:1]).view(len(wavelengths), len(orientations), _PHASES, -1).amax(2)
    lengths = tuple(round(length, 1) for length in wavelengths)
    return Tuning(lengths, tuple(orientations), added.movedim(2, 0).contiguous())


def _central(output: Tensor, layer: str) -> Tensor:
    """B C: of each channel the unit in the middle."""
    maps = maps_of(output, layer)
    return maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2].float().cpu()
