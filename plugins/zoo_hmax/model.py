"""Layers of simple cells, which match, and of complex cells, which take the maximum, in turns.

Serre, Wolf, Bileschi, Riesenhuber, Poggio 2007, "Robust Object Recognition with Cortex-Like Mechanisms",
section 2 and table 1.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import DataError, SpecError
from zoo.modules import ImageClassifier, create_linear, luma_weights


class Scale(NamedTuple):
    """The sizes of a Gabor filter: side of its window, deviation of its Gaussian, length of its wave; in pixels."""

    size: int
    sigma: float
    wavelength: float


class Band(NamedTuple):
    """Two scales of S1 that C1 pools together, over windows of side ``window`` every ``step`` pixels."""

    scales: tuple[Scale, Scale]
    window: int
    step: int


BANDS = (
    Band((Scale(7, 2.8, 3.5), Scale(9, 3.6, 4.6)), 8, 4),
    Band((Scale(11, 4.5, 5.6), Scale(13, 5.4, 6.8)), 10, 5),
    Band((Scale(15, 6.3, 7.9), Scale(17, 7.3, 9.1)), 12, 6),
    Band((Scale(19, 8.2, 10.3), Scale(21, 9.2, 11.5)), 14, 7),
    Band((Scale(23, 10.2, 12.7), Scale(25, 11.3, 14.1)), 16, 8),
    Band((Scale(27, 12.3, 15.4), Scale(29, 13.4, 16.8)), 18, 9),
    Band((Scale(31, 14.6, 18.2), Scale(33, 15.8, 19.7)), 20, 10),
    Band((Scale(35, 17.0, 21.2), Scale(37, 18.2, 22.8)), 22, 11),
)
"""Table 1."""
ORIENTATIONS = (0, 45, 90, 135)
"""Directions in which a filter's wave travels, in degrees."""
ASPECT = 0.3
"""Gamma: a filter's Gaussian is so much narrower along the wave than across it."""
SIDES = (4, 8, 12, 16)
"""Sides of prototypes, in positions of C1."""


class S1(nn.Module):
    """Simple cells of one band: how well each patch of a grey image fits each Gabor filter, from 0 to 1.

    A filter's response, whatever its sign, over the norm of the patch it sees: so brightness has no effect.
    Cells whose window (the band's larger one) reaches over the border are silent.
    """

    def __init__(self, scales: Sequence[Scale]) -> None:
        super().__init__()
        self.sizes = [scale.size for scale in scales]
        self.margin = max(self.sizes) // 2
        filters = [
            F.pad(gabor(scale, orientation), [self.margin - scale.size // 2] * 4)
            for scale in scales
            for orientation in ORIENTATIONS
        ]
        self.filters: Tensor
        self.register_buffer("filters", torch.stack(filters)[:, None], persistent=False)  # constants, no state

    def forward(self, x: Tensor) -> Tensor:
        """Maps images B 1 H W to B 2 4 H W: scales, orientations. H and W are at least the larger window's."""
        responses = F.conv2d(x, self.filters).abs()
        responses = torch.unflatten(responses, 1, (len(self.sizes), len(ORIENTATIONS)))  # B 8 h w -> B 2 4 h w
        energies = torch.stack([self._energy(x, size) for size in self.sizes], dim=1)  # B 2 1 h w
        return F.pad(responses / roots(energies), [self.margin] * 4)

    def _energy(self, x: Tensor, size: int) -> Tensor:
        """Returns the sum of squares of each patch ``size`` x ``size`` about the centre of one that the larger
        window sees.
        """
        inset = self.margin - size // 2
        height, width = x.shape[-2:]
        return box_sums(x[..., inset : height - inset, inset : width - inset].square(), size)


class C1(nn.Module):
    """Complex cells of one band: the strongest simple cell of either scale in a window, by orientation."""

    def __init__(self, band: Band) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(band.window, band.step, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        """Maps S1's B 2 4 H W to B 4 h w, h = ceil((H - window) / step) + 1: the last windows reach over the border."""
        out: Tensor = self.pool(x.amax(dim=1))
        return out


class S2(nn.Module):
    """Cells tuned to prototypes, patches of C1 over all orientations: how far each patch of a map is from each.

    Prototypes are a buffer: cut out of maps of training images, they are state, yet nothing descends a gradient.
    """

    def __init__(self, prototypes: int, side: int) -> None:
        super().__init__()
        self.side = side
        patches = nn.init.uniform_(torch.empty(prototypes, len(ORIENTATIONS), side, side))  # the range of C1
        self.prototypes: Tensor
        self.register_buffer("prototypes", patches)

    def forward(self, x: Tensor) -> Tensor:
        """Maps C1's B 4 h w to squared distances |X - P|^2, B prototypes h-side+1 w-side+1.

        A map smaller than a prototype is continued by silent cells.
        """
        x = continued(x, self.side)
        norms = self.prototypes.square().sum(dim=(1, 2, 3))
        # Not divisor_override=1, which torch's exporters to ONNX ignore.
        energies = F.avg_pool2d(x.square().sum(dim=1, keepdim=True), self.side, stride=1) * self.side**2
        return (F.conv2d(x, -2 * self.prototypes, norms) + energies).clamp_min(0)  # |P|^2 - 2 P.X + |X|^2


class HMAX(ImageClassifier):
    """S1, C1, S2 and C2, whose outputs a linear layer ``fc`` reads; until it is trained, prototypes are noise.

    There are ``prototypes`` of each size. C2 is each one's best match exp(-beta |X - P|^2) over all bands and
    positions. With ``scale_by_size``, beta is ``beta`` (4 / n)^2 for prototypes of side n: distances are sums over
    n x n positions, and one beta for all would leave large prototypes silent (Mutch and Lowe 2008).
    Raises :class:`SpecError`.
    """

    def __init__(
        self,
        *,
        prototypes: int = 250,
        beta: float = 4.0,
        scale_by_size: bool = True,
        num_classes: int = 102,
        in_chans: int = 1,
    ) -> None:
        if prototypes < 1 or not 0 < beta < math.inf:
            raise SpecError(f"prototypes = {prototypes}, beta = {beta}: expected at least 1, and a positive number.")
        super().__init__()
        self.s1 = nn.ModuleList(S1(band.scales) for band in BANDS)
        self.c1 = nn.ModuleList(C1(band) for band in BANDS)
        self.s2 = nn.ModuleList(S2(prototypes, side) for side in SIDES)
        self.betas = [beta * (SIDES[0] / side) ** 2 if scale_by_size else beta for side in SIDES]
        self.luma: Tensor
        self.register_buffer("luma", luma_weights(in_chans), persistent=False)
        for index, band in enumerate(BANDS):
            self.note_stage(f"c1.{index}", len(ORIENTATIONS), band.step)
        self.num_prototypes = prototypes
        self.num_features = prototypes * len(SIDES)
        self.reset_classifier(num_classes)

    def make_classifier(self, num_classes: int) -> nn.Module:
        return create_linear(self.num_features, num_classes, like=self.luma)  # there are no parameters

    def forward_c1(self, x: Tensor) -> list[Tensor]:
        """Maps images B in_chans H W to a map B 4 h w for each band."""
        least = BANDS[-1].scales[-1].size
        if not isinstance(x, torch.fx.Proxy) and min(x.shape[-2:]) < least:  # torch.fx traces any size
            raise DataError(
                f"An image of {x.shape[-2]} x {x.shape[-1]} pixels: the largest filter sees {least} x {least}."
            )
        gray = (x * self.luma).sum(dim=1, keepdim=True)
        return [c1(s1(gray)) for s1, c1 in zip(self.s1, self.c1, strict=True)]

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images B in_chans H W to C2, B num_features, each in (0, 1]; the smallest prototypes first."""
        maps = self.forward_c1(x)
        responses = []
        for s2, beta in zip(self.s2, self.betas, strict=True):
            nearest = torch.stack([s2(band).amin(dim=(2, 3)) for band in maps]).amin(dim=0)  # B prototypes
            responses.append(torch.exp(-beta * nearest))  # the maximum, since exp falls with distance
        return torch.cat(responses, dim=1)


def gabor(scale: Scale, degrees: float) -> Tensor:
    """Returns the filter, float32 size x size: zero outside a disc, of mean 0 in it, of norm 1."""
    axis = torch.arange(scale.size) - scale.size // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    angle = math.radians(degrees)
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    gaussian = torch.exp(-(along**2 + (ASPECT * across) ** 2) / (2 * scale.sigma**2))
    wave = gaussian * torch.cos(2 * math.pi / scale.wavelength * along)
    disc = (x**2 + y**2 <= (scale.size / 2) ** 2).to(wave.dtype)
    centred = disc * (wave - (disc * wave).sum() / disc.sum())
    return F.normalize(centred.flatten(), dim=0).view_as(centred)


@torch.fx.wrap  # a tracer knows no type
def roots(energies: Tensor) -> Tensor:
    """Returns the root of each of ``energies``, which are made positive first: at 0 the root's slope has no end."""
    tiny = 6.103515625e-05 if energies.dtype == torch.float16 else 1.1754943508222875e-38  # the smallest normal number
    return energies.clamp_min(tiny).sqrt()


@torch.fx.wrap  # a tracer knows no size
def continued(x: Tensor, side: int) -> Tensor:
    """Returns maps ... h w with zeros behind, so that they are ``side`` x ``side`` at least."""
    return F.pad(x, [0, max(0, side - x.shape[-1]), 0, max(0, side - x.shape[-2])])


def box_sums(x: Tensor, side: int) -> Tensor:
    """Returns the sum over each window side x side of ``x`` ... H W that lies within it, ... H-side+1 W-side+1.

    From cumulative sums, whose differences need double precision.
    """
    sums = F.pad(x.double(), (1, 0, 1, 0)).cumsum(-1).cumsum(-2)
    sums = sums[..., side:, :] - sums[..., :-side, :]
    return (sums[..., side:] - sums[..., :-side]).to(x.dtype)
