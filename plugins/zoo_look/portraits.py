"""Portraits of channels for an atlas: what drives them, gratings among it, as pictures and as numbers."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from zoo.data import ImageSet
from zoo.data.image_file import opaque
from zoo.errors import SpecError, WeightsError
from zoo.evaluation.forward import device_of
from zoo.loading import Network
from zoo.modules.gabor import pixels, rotated
from zoo_look.deconvnet import Projections, around_gray, project_found
from zoo_look.first_layer import Fit, as_pictures, find_first_layer, fit, patterns
from zoo_look.maximization import maximize
from zoo_look.network import Rectifiers, blank, downward, maps_of, one_hot, reached, statistics
from zoo_look.receptive import Box, boxes_of
from zoo_look.top_patches import TopActivations, cut, patches_of, ranking

# ---- Gratings: stripes of one orientation and wavelength -------------------------------------------------------------

ORIENTATIONS = 8
_WAVELENGTHS = 5
_PHASES = 4
_SHORTEST = 3.0
"""Pixels: a wave of two has only the phases on and off."""


@dataclass(frozen=True, eq=False)
class Tuning:
    """Tuning of C channels: what each grating adds to the response to a grey image: ``responses`` float32 C F O.

    The strongest of four phases, for F ``wavelengths`` in pixels and O ``orientations`` in degrees: the direction in
    which the wave changes, so that 0 means upright stripes.
    """

    wavelengths: tuple[float, ...]
    orientations: tuple[float, ...]
    responses: Tensor

    def best(self, channel: int) -> tuple[float, float] | None:
        """Returns wavelength and orientation of the strongest response; None if no grating adds anything."""
        own = self.responses[channel]
        if not own.max() > 0:
            return None
        row, place = divmod(int(own.argmax()), len(self.orientations))
        return self.wavelengths[row], self.orientations[place]

    def selectivity(self, channel: int) -> float:
        """Returns a number from 0, the same response to all orientations, to 1, a response to one: 1 minus the circular
        variance.

        At the wavelength with the strongest response.
        """
        own = self.responses[channel].clamp(min=0)
        row = own[own.amax(1).argmax()].double()
        angles = 2 * torch.tensor(self.orientations, dtype=torch.float64).deg2rad()
        return float(torch.hypot(row @ angles.cos(), row @ angles.sin()) / row.sum()) if row.sum() > 0 else 0.0


def tuning(network: Network, layer: str, batch_size: int = 64) -> Tuning:
    """Returns the responses of the channels of ``layer`` to gratings between black and white."""
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
    gray = (torch.full((1, 1, height, width), 0.5) - mean) / std
    parts = torch.split(torch.cat([gray, images]), batch_size)
    with reached(network, layer) as run, torch.no_grad():
        responses = torch.cat([_central(run(part.to(device_of(network))), layer) for part in parts])
    added = (responses[1:] - responses[:1]).view(len(wavelengths), len(orientations), _PHASES, -1).amax(2)
    lengths = tuple(round(length, 1) for length in wavelengths)
    return Tuning(lengths, tuple(orientations), added.movedim(2, 0).contiguous())


def _central(output: Tensor, layer: str) -> Tensor:
    """Returns B C: of each channel the unit in the middle."""
    maps = maps_of(output, layer)
    return maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2].float().cpu()


# ---- Portraits -------------------------------------------------------------------------------------------------------

COUNT = 9
"""Patches of a channel."""

_LARGEST = 24
"""Pixels a side of the largest receptive field that is shown as a linear one: larger ones are far from it."""
_SMALLEST = 5
"""Pixels a side of the smallest to which Gabor filters are fitted: smaller ones are fitted by nearly any."""
_FIT = {"starts": 4, "steps": 30}
"""A quarter of the usual effort: the residuals of 16 fields of noise grow by half a per cent."""


@dataclass(frozen=True, eq=False)
class Field:
    """The linear receptive fields of U units: ``weight`` U C h w, the gradients of their values at a grey image.

    Of a first convolution, its filters. ``nearest`` are the Gabor filters that fit their patterns best; None for fields
    of less than 5 pixels, which nearly any Gabor filter fits.
    """

    weight: Tensor
    nearest: Fit | None
    is_first: bool
    """Whether they are the filters of the first convolution, each times a number."""

    def pictures(self) -> list[list[Tensor]]:
        """Returns of each unit the field and, if it was fitted, the nearest Gabor filter: 4 h w in [0, 1]."""
        shown = [[opaque(field)] for field in as_pictures(self.weight)]
        if self.nearest is not None:
            for own, gabor in zip(shown, self.nearest.render(*self.weight.shape[2:]), strict=True):
                own.append(opaque(around_gray(gabor[None].float())))
        return shown

    def colors(self) -> list[tuple[float, float]]:
        """Returns of each unit the share of its field's energy that is grey, and the axis of the rest in degrees.

        Grey is what is the same in red, green and blue. The rest lies in the plane of hues, and its axis is that with
        most energy: 0 runs from cyan to red, 60 from blue to yellow, 120 from magenta to green. Nothing for fields of
        other than three channels.
        """
        if self.weight.shape[1] != 3:
            return []
        basis = torch.tensor([[1, 1, 1], [2, -1, -1], [0, 1, -1]], dtype=torch.float64)
        basis = basis / basis.norm(dim=1, keepdim=True)
        gray, x, y = torch.einsum("ij,ujp->iup", basis, self.weight.double().flatten(2))  # U hw
        energy = self.weight.double().square().flatten(1).sum(1).clamp_min(torch.finfo(torch.float64).tiny)
        axis = torch.atan2(2 * (x * y).sum(1), (x.square() - y.square()).sum(1)).rad2deg() / 2
        return list(zip((gray.square().sum(1) / energy).tolist(), axis.remainder(180).tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class Portraits:
    """Portraits of U channels: the ``strongest`` patches, with projections if the network has ReLUs, and the
    ``tuning``.

    ``maxima`` are the images that maximise their central units, C h w in [0, 1], as far as these see them; ``values``
    are the units' then. Both, and the ``field``, are missing for a network without gradient.
    """

    strongest: TopActivations
    maxima: list[Tensor]
    values: list[float]
    field: Field | None
    tuning: Tuning

    def patches(self, unit: int) -> list[Tensor]:
        return [
            _whole(self.strongest.patch(unit, rank), box, self._side)
            for rank, box in enumerate(self.strongest.boxes[unit])
        ]

    def projections(self, unit: int) -> list[Tensor]:
        """Returns the deconvolutions of the patches, zero grey; nothing for a network without ReLUs."""
        if not isinstance(self.strongest, Projections):
            return []
        pairs = zip(self.strongest.projections[unit], self.strongest.boxes[unit], strict=True)
        return [_whole(around_gray(cut(projection, box)), box, self._side) for projection, box in pairs]

    @property
    def _side(self) -> tuple[int, int]:
        boxes = self.strongest.boxes
        return int((boxes[..., 2] - boxes[..., 0]).max()), int((boxes[..., 3] - boxes[..., 1]).max())


def portray(
    network: Network, layer: str, images: ImageSet, parts: Iterable[Sequence[int]], *, steps: int
) -> Iterator[Portraits]:
    """Yields the portraits of the channels of ``layer`` that each of ``parts`` names: patches of ``images``, ``steps``
    of ascent. The images are searched once."""
    ranked = ranking(network, layer, images, count=COUNT)
    with reached(network, layer) as run:
        fields, _ = boxes_of(run, blank(network), layer)
    gratings = tuning(network, layer)
    height, width = fields.shape[1:3]
    position = (height // 2, width // 2)
    for channels in parts:
        strongest = patches_of(network, layer, images, ranked, fields, channels)
        strongest = replace(strongest, boxes=_known(strongest.boxes, strongest.pixels))
        box: Box = tuple(_known(fields[channels[0], *position], strongest.pixels).tolist())
        try:
            field = _field(network, layer, channels, position, box)
            climbed = maximize(network, layer, channels, position=position, steps=steps, jitter=0)
            maxima = [cut(image, box) for image in climbed.images]
            values: list[float] = climbed.values.tolist()
            if _has_rectifiers(network):
                strongest = project_found(network, strongest)
        except WeightsError:  # no gradient
            maxima, values, field = [], [], None
        chosen = Tuning(gratings.wavelengths, gratings.orientations, gratings.responses[list(channels)])
        yield Portraits(strongest, maxima, values, field, chosen)


def channels_of(network: Network, layer: str) -> int:
    with reached(network, layer) as run, torch.no_grad():
        return int(maps_of(run(blank(network)), layer).shape[1])


def _known(boxes: Tensor, images: Tensor) -> Tensor:
    """Returns ``boxes`` ... 4, but the whole of ``images`` ... H W for units of which it is not known what they see."""
    whole = torch.tensor([0, 0, *images.shape[-2:]])
    return torch.where((boxes[..., 2:] > boxes[..., :2]).all(-1, keepdim=True), boxes, whole)


def _has_rectifiers(network: Network) -> bool:
    with torch.no_grad(), Rectifiers() as seen:
        network(blank(network))
    return bool(seen.relus)


def _field(network: Network, layer: str, channels: Sequence[int], position: tuple[int, int], box: Box) -> Field | None:
    """Returns the fields of the units at ``position``, which see ``box``; None if that is too large."""
    numbers = torch.tensor(channels)
    with reached(network, layer) as run, torch.inference_mode(False), torch.enable_grad(), Rectifiers() as seen:
        leaf = blank(network).repeat(len(numbers), 1, 1, 1).requires_grad_()
        maps = maps_of(seen.before(run(leaf.clone())), layer)
        places = torch.full_like(numbers, position[0] * maps.shape[3] + position[1])
        gradient = downward(maps, leaf, one_hot(maps, numbers, places, torch.ones(len(numbers))), layer)
    top, left, bottom, right = box
    weight = gradient[:, :, top:bottom, left:right].float().cpu()
    if min(weight.shape[2:]) < 1 or max(weight.shape[2:]) > _LARGEST:
        return None
    nearest = fit(patterns(weight)[0], **_FIT) if min(weight.shape[2:]) >= _SMALLEST else None
    return Field(weight, nearest, _is_first(network, weight, channels))


def _is_first(network: Network, weight: Tensor, channels: Sequence[int]) -> bool:
    """Returns whether the fields ``weight`` U C h w are those of the first convolution's filters ``channels``."""
    try:
        filters = find_first_layer(network).weight
    except SpecError:
        return False
    if max(channels) >= len(filters) or filters.shape[1:] != weight.shape[1:]:
        return False
    own, theirs = weight.flatten(1), filters[torch.tensor(channels)].flatten(1)
    norms = own.norm(dim=1) * theirs.norm(dim=1)  # zero of a dead unit
    return bool(norms.any() and ((own * theirs).sum(1).abs() >= 0.999 * norms).all())


def _whole(patch: Tensor, box: Tensor, side: tuple[int, int]) -> Tensor:
    """Returns ``patch`` C h w in a picture of ``side`` with 4 channels, transparent beyond the image's border."""
    height, width = patch.shape[1:]
    down = side[0] - height if int(box[0]) == 0 else 0
    across = side[1] - width if int(box[1]) == 0 else 0
    return pad(opaque(patch), (across, side[1] - width - across, down, side[0] - height - down))
