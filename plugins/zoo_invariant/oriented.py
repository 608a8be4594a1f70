"""Oriented Response Networks: filters that turn while they are applied.

Zhou, Ye, Qiu, Jiao 2017, "Oriented Response Networks" (CVPR), and the authors' demonstration on MNIST
(ZhouYanzhao/ORN): the plain network beside it is theirs too.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.modules import check_choice
from zoo_invariant.network import Network, constant, initialize

Encoding = Literal["align", "pool"]
Lift = Literal["copies", "one"]

_RING = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
"""The cells around the centre of a 3x3 filter, clockwise."""
_WIDTHS = (10, 20, 40, 80)
_PADDING = (0, 0, 1, 0)


def rotation_index(orientations: int, planes: int) -> Tensor:
    """Returns int64 N, n*9: where the N turned copies of a filter n 3 3 find each of their elements in it.

    Copy k is turned clockwise by 360 k / N degrees: its outer cells move k * 8/N places along the ring
    (coordinate rotation), and of ``planes`` = N orientation channels each moves on by k (orientation
    spin). The one plane of an image has no orientation to spin.
    """
    source = torch.empty(orientations, planes, 3, 3, dtype=torch.int64)
    for k in range(orientations):
        for plane in range(planes):
            first = 9 * ((plane - k) % planes)
            source[k, plane, 1, 1] = first + 4
            for place, (row, column) in enumerate(_RING):
                from_row, from_column = _RING[(place - k * 8 // orientations) % 8]
                source[k, plane, row, column] = first + 3 * from_row + from_column
    return source.flatten(1)  # N n 3 3 -> N n*9


class ORConv2d(nn.Module):
    """A 3x3 convolution whose every filter, an active rotating filter, is applied in N orientations.

    ``weight`` is out in n 9, of n = N orientation channels, or 1 for maps that have none, and nine taps,
    row by row. Input B in*n H W and output B out*N h w have the orientation as the faster index. One
    weight collects the gradients of its N copies; each copy has a bias of its own.
    """

    index: Tensor

    def __init__(self, in_maps: int, out_maps: int, *, orientations: int, planes: int, padding: int = 0) -> None:
        super().__init__()
        self.orientations = orientations
        self.padding = padding
        self.weight = nn.Parameter(torch.empty(out_maps, in_maps, planes, 9))
        self.bias = nn.Parameter(torch.empty(out_maps * orientations))
        self.register_buffer("index", constant(lambda: rotation_index(orientations, planes)), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws He's normal weights by the fan of the input, orientation channels counted; biases are 0."""
        nn.init.normal_(self.weight, std=(2 / self.weight[0].numel()) ** 0.5)
        nn.init.zeros_(self.bias)

    def rotated(self) -> Tensor:
        """Returns the filters in all orientations: out*N in*n 3 3."""
        out_maps, in_maps, planes = self.weight.shape[:3]
        copies = self.weight.flatten(2)[:, :, self.index]  # out in n 9 -> out in N n*9
        return copies.transpose(1, 2).reshape(out_maps * self.orientations, in_maps * planes, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.rotated(), self.bias, padding=self.padding)


class Copies(nn.Module):
    """Maps B C H W as the same response in all of N orientations: B C*N H W."""

    def __init__(self, orientations: int) -> None:
        super().__init__()
        self.orientations = orientations

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self.orientations, dim=1)


class ORAlign(nn.Module):
    """The N responses of each map, B C*N 1 1, turned round so that the strongest one comes first."""

    def __init__(self, orientations: int) -> None:
        super().__init__()
        self.orientations = orientations

    def forward(self, x: Tensor) -> Tensor:
        responses = torch.unflatten(x.flatten(1), 1, (-1, self.orientations))  # B C*N 1 1 -> B C N
        steps = torch.arange(self.orientations, device=x.device)
        order = (responses.argmax(dim=2, keepdim=True) + steps) % self.orientations
        return responses.gather(2, order).view_as(x)


class ORPool(nn.Module):
    """The strongest of the N responses of each map: B C*N h w to B C h w."""

    def __init__(self, orientations: int) -> None:
        super().__init__()
        self.orientations = orientations

    def forward(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, 1, (-1, self.orientations)).amax(dim=2)  # B C*N h w -> B C N h w -> B C h w


def _features(convolutions: Sequence[nn.Module]) -> OrderedDict[str, nn.Module]:
    """Builds four convolutions with ReLU, and 2x2 max pools behind the first three."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, convolution in enumerate(convolutions, start=1):
        layers[f"conv{number}"] = convolution
        layers[f"act{number}"] = nn.ReLU()
        if number < 4:
            layers[f"pool{number}"] = nn.MaxPool2d(2)
    return layers


def _network(layers: OrderedDict[str, nn.Module], chans: Sequence[int], drop_rate: float, num_classes: int) -> Network:
    """Returns ``chans`` of the three pools and of the last layer, whose maps of 32x32 images are 1x1."""
    names = ["pool1", "pool2", "pool3", next(reversed(layers))]
    stages = [
        (f"features.{name}", n, reduction) for name, n, reduction in zip(names, chans, (2, 4, 8, 32), strict=True)
    ]
    network = Network(nn.Sequential(layers), stages, num_classes=num_classes, side=1, hidden=1024, drop_rate=drop_rate)
    initialize(network)
    return network


def mnist_cnn(*, width: int = 80, drop_rate: float = 0.5, num_classes: int = 10, in_chans: int = 1) -> Network:
    """Returns the plain network: ``width``, 2, 4, 8 times that many maps, a hidden layer of 1024."""
    widths = [width * 2**level for level in range(4)]
    sizes = zip((in_chans, *widths[:3]), widths, _PADDING, strict=True)
    layers = _features([nn.Conv2d(before, after, 3, padding=padding) for before, after, padding in sizes])
    return _network(layers, widths, drop_rate, num_classes)


def orn(
    *,
    orientations: int = 8,
    encoding: Encoding = "align",
    lift: Lift = "copies",
    drop_rate: float = 0.5,
    num_classes: int = 10,
    in_chans: int = 1,
) -> Network:
    """Builds 10, 20, 40, 80 maps of 4 or 8 ``orientations`` each, made invariant by ``encoding``, a hidden layer of
    1024.

    ``lift``: the image enters as ``copies`` in all orientations, which the first filters have weights for,
    or as the ``one`` plane that it is, with N times fewer. Raises :class:`SpecError`.
    """
    if orientations not in (4, 8):
        raise SpecError(f"orientations = {orientations} is not 4 or 8, by which a 3x3 filter turns onto its own cells.")
    check_choice("encoding", encoding, get_args(Encoding))
    check_choice("lift", lift, get_args(Lift))

    first = 1 if lift == "one" else orientations
    sizes = zip((in_chans, *_WIDTHS[:3]), _WIDTHS, (first, *[orientations] * 3), _PADDING, strict=True)
    layers = _features(
        [
            ORConv2d(before, after, orientations=orientations, planes=planes, padding=padding)
            for before, after, planes, padding in sizes
        ]
    )
    layers["encode"] = ORAlign(orientations) if encoding == "align" else ORPool(orientations)
    chans = [width * orientations for width in _WIDTHS]
    if encoding == "pool":
        chans[-1] = _WIDTHS[-1]
    if lift == "copies":
        layers["lift"] = Copies(orientations)
        layers.move_to_end("lift", last=False)
    return _network(layers, chans, drop_rate, num_classes)
