"""Residual networks with pre-activation, for 32x32 images.

He, Zhang, Ren, Sun 2016, "Identity Mappings in Deep Residual Networks", and the authors' Torch file
(KaimingHe/resnet-1k-layers, resnet-pre-act.lua). Keys follow this family's other networks.
"""

from typing import get_args

from torch import Tensor, nn

from zoo.modules import PooledClassifier, check_choice, count_units, he_initialize
from zoo_resnet.model import StrideOn


class PreActUnit(nn.Module):
    """BN, ReLU, convolution, several times, added to the input.

    Where the shape changes, the first BN and ReLU belong to both branches and the shortcut is a bare
    1x1 convolution; elsewhere the shortcut is the untouched input.
    """

    expansion: int

    def __init__(self, in_chans: int, out_chans: int, *, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_chans)
        self.act1 = nn.ReLU()
        self.downsample = (
            nn.Conv2d(in_chans, out_chans, kernel_size=1, stride=stride, bias=False)
            if stride != 1 or in_chans != out_chans
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        activated = self.act1(self.bn1(x))
        shortcut = x if self.downsample is None else self.downsample(activated)
        return self.forward_branch(activated) + shortcut

    def forward_branch(self, x: Tensor) -> Tensor:
        """Returns the residual branch from its first convolution on."""
        raise NotImplementedError


class PreActBasicBlock(PreActUnit):
    """Two 3x3 convolutions."""

    expansion = 1

    def __init__(self, in_chans: int, width: int, *, stride: int, stride_on: StrideOn) -> None:
        super().__init__(in_chans, width, stride=stride)
        self.conv1 = nn.Conv2d(in_chans, width, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False)

    def forward_branch(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.act2(self.bn2(self.conv1(x))))
        return out


class PreActBottleneck(PreActUnit):
    """1x1, 3x3 and 1x1 to four times as many channels; ``stride_on`` as in ``model.Bottleneck``."""

    expansion = 4

    def __init__(self, in_chans: int, width: int, *, stride: int, stride_on: StrideOn) -> None:
        super().__init__(in_chans, width * self.expansion, stride=stride)
        first, second = (stride, 1) if stride_on == "1x1" else (1, stride)
        self.conv1 = nn.Conv2d(in_chans, width, kernel_size=1, stride=first, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, stride=second, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.act3 = nn.ReLU()
        self.conv3 = nn.Conv2d(width, width * self.expansion, kernel_size=1, bias=False)

    def forward_branch(self, x: Tensor) -> Tensor:
        x = self.conv2(self.act2(self.bn2(self.conv1(x))))
        out: Tensor = self.conv3(self.act3(self.bn3(x)))
        return out


class PreActResNet(PooledClassifier):
    """3x3 stem, three stages of units, BN and ReLU, global average, linear layer.

    ``depth`` is 9n + 2 (``bottleneck``) or 6n + 2 (two 3x3 a unit). The authors' Torch file puts the stride of
    a bottleneck on the first ``1x1``. Raises :class:`SpecError`.
    """

    def __init__(
        self,
        *,
        depth: int,
        bottleneck: bool = True,
        stride_on: StrideOn = "1x1",
        num_classes: int = 10,
        in_chans: int = 3,
    ) -> None:
        check_choice("stride_on", stride_on, get_args(StrideOn))
        unit, layers = (PreActBottleneck, 9) if bottleneck else (PreActBasicBlock, 6)
        hint = "The paper has 110 with bottleneck=False, 164 and 1001 with bottleneck=True."
        units = count_units(depth, layers=layers, others=2, hint=hint)
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, 16, kernel_size=3, padding=1, bias=False)
        self.note_stage("conv1", 16, 1)
        chans = 16
        for index, width in enumerate((16, 32, 64)):
            blocks: list[nn.Module] = []
            for position in range(units):
                stride = 2 if index > 0 and position == 0 else 1
                blocks.append(unit(chans, width, stride=stride, stride_on=stride_on))
                chans = width * unit.expansion
            self.add_module(f"layer{index + 1}", nn.Sequential(*blocks))
            self.note_stage(f"layer{index + 1}", chans, 2**index)
        self.bn = nn.BatchNorm2d(chans)
        self.act = nn.ReLU()
        self.num_features = chans
        self.reset_classifier(num_classes)
        he_initialize(self, "fan_out")

    @property
    def default_layers(self) -> tuple[str, ...]:
        return *super().default_layers, "act"

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for name in ("layer1", "layer2", "layer3"):
            x = self.get_submodule(name)(x)
        features: Tensor = self.act(self.bn(x))
        return features
