"""Residual Gabor networks for 32x32 images: wide residual networks whose every convolution is modulated.

Luan et al. 2017, section 4.3 (GCN40-n), and the authors' code, ``CIFAR/net_factory.py``
(bczhangbczhang/Gabor-Convolutional-Networks).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.modules import PooledClassifier, count_units
from zoo_gabor.modulation import GConv

_STAGES = 3


class WideBasic(nn.Module):
    """Normalisation, ReLU, 3x3, dropout, normalisation, ReLU, 3x3, and a shortcut past them all.

    Where shape changes the shortcut is a convolution of one pixel, of the block's input as it came in.
    """

    def __init__(
        self, in_maps: int, maps: int, *, stride: int, drop_rate: float, orientations: int, scale: int
    ) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_maps * orientations)
        self.act1 = nn.ReLU()
        self.conv1 = GConv(in_maps, maps, 3, orientations=orientations, scale=scale, stride=stride, padding=1)
        self.drop = nn.Dropout(drop_rate)
        self.bn2 = nn.BatchNorm2d(maps * orientations)
        self.act2 = nn.ReLU()
        self.conv2 = GConv(maps, maps, 3, orientations=orientations, scale=scale, padding=1)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_maps != maps:
            self.shortcut = GConv(in_maps, maps, 1, orientations=orientations, scale=scale, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.drop(self.conv1(self.act1(self.bn1(x))))
        out: Tensor = self.conv2(self.act2(self.bn2(residual))) + self.shortcut(x)
        return out


class GaborWideResNet(PooledClassifier):
    """``conv1``, stages ``layer1`` to ``layer3``, ``bn``, ReLU, global average, ``fc``, of ``depth`` 6n + 4.

    ``maps`` are those of the stem and of the three stages, each of ``orientations`` U channels, and
    ``scales`` their banks'. The linear layer sees the orientations one by one. Raises :class:`SpecError`.
    """

    def __init__(
        self,
        *,
        depth: int,
        maps: Sequence[int],
        scales: Sequence[int] = (1, 1, 1, 1),
        orientations: int = 4,
        drop_rate: float = 0.0,
        num_classes: int = 10,
        in_chans: int = 3,
    ) -> None:
        blocks = count_units(depth, layers=6, others=4)
        if len(maps) != 1 + _STAGES or len(scales) != 1 + _STAGES:
            raise SpecError(
                f"maps = {list(maps)}, scales = {list(scales)}: expected four of each, the stem's and three stages'."
            )
        super().__init__()
        self.conv1 = GConv(in_chans, maps[0], 3, orientations=orientations, scale=scales[0], padding=1, first=True)
        for stage in range(1, 1 + _STAGES):
            layers = [
                WideBasic(
                    maps[stage - 1] if index == 0 else maps[stage],
                    maps[stage],
                    stride=2 if index == 0 and stage > 1 else 1,
                    drop_rate=drop_rate,
                    orientations=orientations,
                    scale=scales[stage],
                )
                for index in range(blocks)
            ]
            name = f"layer{stage}"
            self.add_module(name, nn.Sequential(*layers))
            self.note_stage(name, maps[stage] * orientations, 2 ** (stage - 1))
        self.num_features = maps[-1] * orientations
        self.bn = nn.BatchNorm2d(self.num_features)
        self.act = nn.ReLU()
        self.reset_classifier(num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images B C H W to B num_features H/4 W/4."""
        x = self.conv1(x)
        for name in self.default_layers:
            x = self.get_submodule(name)(x)
        out: Tensor = self.act(self.bn(x))
        return out
