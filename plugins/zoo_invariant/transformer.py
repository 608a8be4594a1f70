"""Spatial transformers: a network that looks where it wants to.

Jaderberg, Simonyan, Zisserman, Kavukcuoglu 2015, "Spatial Transformer Networks", sections 3 and 4.1,
and PyTorch's tutorial on them for the small network. Thin plate splines: Bookstein 1989.
"""

from collections import OrderedDict
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.modules import check_choice
from zoo_invariant.network import Network, PreciseLinear, constant, full_precision

Warp = Literal["affine", "projective", "tps", "none"]
Design = Literal["rts", "tutorial"]

TPS_SIDE = 4
"""Control points of a thin plate spline along each side of their grid, which reaches from -1 to 1."""
_IDENTITY = {"affine": (1.0, 0, 0, 0, 1, 0), "projective": (1.0, 0, 0, 0, 1, 0, 0, 0), "tps": (0.0,) * 2 * TPS_SIDE**2}


class SpatialTransformer(nn.Module):
    """Samples B C H W where ``localisation`` and ``theta`` say, bilinearly, with 0 outside: B C H W.

    ``theta`` gives an affine map's two rows (6 numbers), a projective map's three save the last number,
    1 (8), or the shifts of a thin plate spline's control points (32): of points (x, y) of the output, each
    from -1 to 1 between the centres of the outermost pixels, it says where in the input they are found.
    It begins as the identity whatever the image. From ``theta`` on all is float32: in bfloat16 the grid
    itself would be coarse.
    """

    tps: Tensor
    points: Tensor

    def __init__(self, localisation: nn.Module, width: int, warp: Warp) -> None:
        super().__init__()
        self.warp = warp
        self.localisation = localisation
        self.theta = PreciseLinear(width, len(_IDENTITY[warp]))
        nn.init.zeros_(self.theta.weight)
        with torch.no_grad():
            self.theta.bias.copy_(torch.tensor(_IDENTITY[warp]))
        if warp == "tps":
            self.register_buffer("points", constant(control_points), persistent=False)
            self.register_buffer("tps", constant(tps_inverse), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return transformed(x, self.theta(self.localisation(x)), self.warp, self._spline())

    def grid(self, theta: Tensor, height: int, width: int) -> Tensor:
        """Returns where the input is sampled, (x, y) for each pixel of the output: B H W 2."""
        return sampling_grid(theta, height, width, self.warp, self._spline())

    def _spline(self) -> tuple[Tensor, ...]:
        return (self.tps, self.points) if self.warp == "tps" else ()


@torch.fx.wrap  # a tracer knows neither type nor device
def transformed(x: Tensor, theta: Tensor, warp: Warp, spline: tuple[Tensor, ...]) -> Tensor:
    """Returns what :class:`SpatialTransformer` makes of ``x`` where its numbers are ``theta``."""
    with full_precision(x):
        grid = sampling_grid(theta, x.shape[-2], x.shape[-1], warp, spline)
        sampled = F.grid_sample(x.to(theta.dtype), grid, mode="bilinear", padding_mode="zeros", align_corners=True)
        return sampled.to(x.dtype)


def sampling_grid(theta: Tensor, height: int, width: int, warp: Warp, spline: tuple[Tensor, ...]) -> Tensor:
    """Returns where the input is sampled, B H W 2; ``spline`` is :func:`tps_inverse` and :func:`control_points`."""
    places = pixel_places(height, width, theta.device).to(theta.dtype)
    with_ones = torch.cat([places, torch.ones_like(places[:, :1])], dim=1)  # HW 3
    if warp == "affine":
        sampled = with_ones @ theta.view(-1, 2, 3).mT  # B HW 2
    elif warp == "projective":
        rows = torch.cat([theta, torch.ones_like(theta[:, :1])], dim=1).view(-1, 3, 3)
        x, y, z = (with_ones @ rows.mT).unbind(2)  # each B HW
        sampled = torch.stack([x / z, y / z], dim=2)
    else:
        tps, points = (part.to(theta.dtype) for part in spline)
        bent = tps @ theta.view(-1, TPS_SIDE**2, 2)  # B K+3 2: coefficients of the shifts
        sampled = places + tps_basis(places, points) @ bent
    return sampled.view(-1, height, width, 2)


def pixel_places(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Returns (x, y) of every pixel, row by row, from -1 to 1 between the outermost centres: HW 2."""
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height, device=device), torch.linspace(-1, 1, width, device=device), indexing="ij"
    )
    return torch.stack([x, y], dim=2).view(-1, 2)


def control_points() -> Tensor:
    """Returns the control points, K 2."""
    return pixel_places(TPS_SIDE, TPS_SIDE)


def tps_basis(places: Tensor, points: Tensor) -> Tensor:
    """Returns P K+3: r^2 log r^2 of each place's distance r to each point, then 1, x, y."""
    squared = (places[:, None] - points).square().sum(dim=2)
    radial = torch.where(squared > 0, squared * squared.clamp_min(1e-12).log(), 0)
    return torch.cat([radial, torch.ones_like(places[:, :1]), places], dim=1)


def tps_inverse() -> Tensor:
    """Returns K+3 K: from values at the control points to the coefficients of the spline through them."""
    points = control_points().double()
    count = len(points)
    system = torch.zeros(count + 3, count + 3, dtype=torch.float64)
    system[:count] = tps_basis(points, points)
    system[count:, :count] = system[:count, count:].T
    inverse: Tensor = torch.linalg.inv(system)
    return inverse[:, :count].float()


def _localization(in_chans: int, chans: tuple[int, int], kernels: tuple[int, int], flat: int, hidden: int) -> nn.Module:
    """Builds two convolutions, each pooled, and a hidden layer: B C H W to B hidden."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_chans, chans[0], kernels[0]),
            pool1=nn.MaxPool2d(2),
            act1=nn.ReLU(),
            conv2=nn.Conv2d(chans[0], chans[1], kernels[1]),
            pool2=nn.MaxPool2d(2),
            act2=nn.ReLU(),
            flatten=nn.Flatten(),
            fc=nn.Linear(flat, hidden),
            act3=nn.ReLU(),
        )
    )


class STN(Network):
    """A classifier of what its ``transformer`` makes of the image.

    The transformer learns at ``localisation_lr`` times the rate of all else (``zoo_invariant.training``).
    """

    def __init__(
        self,
        transformer: nn.Module,
        features: nn.Module,
        stage: tuple[str, int, int],
        *,
        side: int,
        hidden: int,
        drop_rate: float,
        localisation_lr: float,
        num_classes: int,
    ) -> None:
        super().__init__(features, [stage], num_classes=num_classes, side=side, hidden=hidden, drop_rate=drop_rate)
        self.transformer = transformer
        self.localisation_lr = localisation_lr

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images B C H W to B num_features h w."""
        return super().forward_features(self.transformer(x))


def stn_cnn(
    *,
    design: Design = "rts",
    warp: Warp = "affine",
    localisation_lr: float = 1.0,
    drop_rate: float | None = None,
    num_classes: int = 10,
    in_chans: int = 1,
) -> STN:
    """Returns the ST-CNN for 42x42 images, or the network of PyTorch's ``tutorial`` for 28x28 ones.

    ``warp`` ``none`` leaves the transformer out: the classifier alone, for comparison. ``localisation_lr``
    is the transformer's learning rate over that of all else. Raises :class:`SpecError`.
    """
    check_choice("design", design, get_args(Design))
    check_choice("warp", warp, get_args(Warp))
    if localisation_lr < 0:
        raise SpecError(f"localisation_lr = {localisation_lr} is negative.")
    layers: OrderedDict[str, nn.Module]
    if design == "rts":
        localisation, width = _localization(in_chans, (20, 20), (5, 5), flat=20 * 7**2, hidden=20), 20
        layers = OrderedDict(
            conv1=nn.Conv2d(in_chans, 32, 9),
            pool1=nn.MaxPool2d(2),
            act1=nn.ReLU(),
            conv2=nn.Conv2d(32, 32, 7),
            pool2=nn.MaxPool2d(2),
            act2=nn.ReLU(),
        )
        stage, side, hidden, usual_rate = ("features.act2", 32, 8), 5, 256, 0.0
    else:
        localisation, width = _localization(in_chans, (8, 10), (7, 5), flat=10 * 3**2, hidden=32), 32
        layers = OrderedDict(
            conv1=nn.Conv2d(in_chans, 10, 5),
            pool1=nn.MaxPool2d(2),
            act1=nn.ReLU(),
            conv2=nn.Conv2d(10, 20, 5),
            drop2=nn.Dropout2d(),
            pool2=nn.MaxPool2d(2),
            act2=nn.ReLU(),
        )
        stage, side, hidden, usual_rate = ("features.act2", 20, 7), 4, 50, 0.5
    return STN(
        nn.Identity() if warp == "none" else SpatialTransformer(localisation, width, warp),
        nn.Sequential(layers),
        stage,
        side=side,
        hidden=hidden,
        drop_rate=usual_rate if drop_rate is None else drop_rate,
        localisation_lr=localisation_lr,
        num_classes=num_classes,
    )
