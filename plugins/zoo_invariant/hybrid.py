"""Classifiers on scattering coefficients: linear, convolutional, residual.

The first two are those of kymatio's examples (``examples/2d/cifar_torch.py``); the third is Oyallon,
Belilovsky, Zagoruyko 2017, "Scaling the Scattering Transform: Deep Hybrid Networks" (ICCV), with the blocks
of Zagoruyko, Komodakis 2016, "Wide Residual Networks".
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.modules import check_positive, fit_channels
from zoo_invariant.network import Network, initialize
from zoo_invariant.scattering import Scattering


class ScatteringNetwork(Network):
    """A :class:`Network` whose first weights are a normalisation of coefficients, those of a channel in a row."""

    def adapt_channels(self, tensors: dict[str, Tensor], before: int, channels: int) -> list[str]:
        """Adapts ``tensors`` of ``before`` channels to ``channels``, and returns the keys that changed.

        The normalisation gets the mean over channels, the weights behind it their sum: exact for a grey image if
        channels have the same statistics.
        """
        changed = [key for key, value in self.state_dict().items() if value.shape != tensors[key].shape]
        for key in changed:
            tensors[key] = fit_channels(tensors[key], before, channels, dim=min(tensors[key].ndim - 1, 1))
        return changed


def scatter_linear(*, J: int = 2, side: int = 32, num_classes: int = 10, in_chans: int = 3) -> Network:  # noqa: N803  # the papers' name
    """Coefficients of images of ``side`` pixels, normalised, and one linear layer. Raises :class:`SpecError`."""
    layers, chans = _normalized(J, side, in_chans, affine=True)
    stages = [("features.norm", chans, 2**J)]
    return ScatteringNetwork(nn.Sequential(layers), stages, num_classes=num_classes, side=side // 2**J)


def scatter_cnn(
    *,
    J: int = 2,  # noqa: N803  # the papers' name
    side: int = 32,
    widths: Sequence[Sequence[int]] = ((256, 256, 256), (512, 512, 512, 1024, 1024)),
    num_classes: int = 10,
    in_chans: int = 3,
) -> Network:
    """Builds normalized coefficients, then 3x3 convolutions of these ``widths`` with BN and ReLU, averaged to 2x2.

    A 2x2 max pool stands between two groups of convolutions. Raises :class:`SpecError`.
    """
    if not widths or not all(widths):
        raise SpecError(f"widths = {widths}: expected groups of one convolution at least.")
    layers, chans = _normalized(J, side, in_chans, affine=True)
    stages = []
    reduction, number = 2**J, 0
    for group in widths:
        if number:
            layers[f"pool{number}"] = nn.MaxPool2d(2)
            reduction *= 2
        for width in group:
            number += 1
            layers[f"block{number}"] = _convolution(chans, width)
            chans = width
        stages.append((f"features.block{number}", chans, reduction))
    network = ScatteringNetwork(nn.Sequential(layers), stages, num_classes=num_classes, pooled=2)
    initialize(network)
    return network


class PreActBlock(nn.Module):
    """Twice BN, ReLU and a 3x3 convolution, and a shortcut: 1x1, of what the first ReLU gives, where widths differ."""

    def __init__(self, in_chans: int, width: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_chans)
        self.conv1 = nn.Conv2d(in_chans, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(in_chans, width, 1, bias=False) if in_chans != width else None
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.bn1(x))
        out: Tensor = self.conv2(self.act(self.bn2(self.conv1(y))))
        return out + (x if self.shortcut is None else self.shortcut(y))


def scatter_wrn(
    *,
    widen: int = 8,
    blocks: int = 2,
    J: int = 2,  # noqa: N803  # the papers' name
    side: int = 32,
    num_classes: int = 10,
    in_chans: int = 3,
) -> Network:
    """Builds normalized coefficients (nothing learned), a 3x3 convolution to 16 k maps for k = ``widen``, two stages.

    These have ``blocks`` residual blocks of 32 k and of 64 k maps, all of one size. Raises :class:`SpecError`.
    """
    check_positive(widen=widen, blocks=blocks)
    layers, chans = _normalized(J, side, in_chans, affine=False)
    first = nn.Conv2d(chans, 16 * widen, 3, padding=1, bias=False)
    layers["stem"] = nn.Sequential(OrderedDict(norm=layers.pop("norm"), conv=first))
    chans = 16 * widen
    for number, width in enumerate((32 * widen, 64 * widen), start=1):
        layers[f"stage{number}"] = nn.Sequential(
            *(PreActBlock(chans if block == 0 else width, width) for block in range(blocks))
        )
        chans = width
    layers["norm_last"], layers["act_last"] = nn.BatchNorm2d(chans), nn.ReLU()
    stages = [(f"features.{name}", width, 2**J) for name, width in (("stage1", 32 * widen), ("act_last", chans))]
    network = ScatteringNetwork(nn.Sequential(layers), stages, num_classes=num_classes, pooled=1)
    initialize(network)
    return network


def _normalized(scale: int, side: int, in_chans: int, *, affine: bool) -> tuple[OrderedDict[str, nn.Module], int]:
    """Returns the transform and a batch normalisation of its coefficients, and how many there are of an image."""
    transform = Scattering(scale, side)
    chans = in_chans * transform.coefficients
    return OrderedDict(scatter=transform, norm=nn.BatchNorm2d(chans, affine=affine)), chans


def _convolution(in_chans: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_chans, width, 3, padding=1),
            bn=nn.BatchNorm2d(width),
            act=nn.ReLU(),
        )
    )
