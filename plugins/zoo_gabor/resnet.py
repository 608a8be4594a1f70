"""Residual Gabor networks for 32x32 images: wide residual networks whose every convolution is modulated.

Luan et al. 2017, section 4.3 (GCN40-n), and the authors' code, ``CIFAR/net_factory.py``
(bczhangbczhang/Gabor-Convolutional-Networks).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from zoo.errors import SpecError
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


class GaborWideResNet(nn.Module):
    """``conv1``, stages ``layer1`` to ``layer3`` of ``blocks`` each, ``bn``, ReLU, global average, ``fc``.

    ``maps`` are those of the stem and of the three stages, each of ``orientations`` channels, and
    ``scales`` their banks'. The linear layer sees the orientations one by one.
    """

    def __init__(
        self,
        *,
        blocks: int,
        maps: Sequence[int],
        scales: Sequence[int],
        orientations: int,
        drop_rate: float,
        num_classes: int,
        in_chans: int,
    ) -> None:
        if len(maps) != 1 + _STAGES or len(scales) != 1 + _STAGES:
            raise SpecError(
                f"maps = {list(maps)}, scales = {list(scales)}: expected four of each, the stem's and three stages'."
            )
        super().__init__()
        self.conv1 = GConv(in_chans, maps[0], 3, orientations=orientations, scale=scales[0], padding=1, first=True)
        self.feature_info: list[dict[str, object]] = []
        """Per stage: ``num_chs`` channels, ``reduction`` of the input's size, name of the ``module``."""
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
            self.feature_info.append(
                {"num_chs": maps[stage] * orientations, "reduction": 2 ** (stage - 1), "module": name}
            )
        self.stages = tuple(str(stage["module"]) for stage in self.feature_info)
        self.default_layers = self.stages
        """Names of the modules that are worth looking at."""

        self.num_features = maps[-1] * orientations
        self.bn = nn.BatchNorm2d(self.num_features)
        self.act = nn.ReLU()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))  # B C h w -> B C
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Replaces ``fc``; 0 classes leave it out."""
        self.num_classes = num_classes
        like = self.conv1.weight
        self.fc: nn.Module = (
            nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype)
            if num_classes
            else nn.Identity()
        )

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward_features(self, x: Tensor) -> Tensor:
        """Images B C H W to B num_features H/4 W/4."""
        x = self.conv1(x)
        for name in self.stages:
            x = self.get_submodule(name)(x)
        out: Tensor = self.act(self.bn(x))
        return out

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features B num_features h w to logits B num_classes, or the pooled features where ``pre_logits``."""
        x = self.pool(x)
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def gcn_resnet(
    *,
    depth: int,
    maps: Sequence[int],
    scales: Sequence[int] = (1, 1, 1, 1),
    orientations: int = 4,
    drop_rate: float = 0.0,
    num_classes: int = 10,
    in_chans: int = 3,
) -> GaborWideResNet:
    """The network of ``depth`` 6n + 4 with these ``maps`` of its stem and its three stages.

    ``scales`` are their banks', ``orientations`` the U channels of a map. Raises :class:`SpecError`.
    """
    if depth < 10 or depth % 6 != 4:
        raise SpecError(f"depth = {depth!r} is not 6n + 4: 10, 16, 22, 28, 34, 40, ...")
    return GaborWideResNet(
        blocks=(depth - 4) // 6,
        maps=maps,
        scales=scales,
        orientations=orientations,
        drop_rate=drop_rate,
        num_classes=num_classes,
        in_chans=in_chans,
    )
