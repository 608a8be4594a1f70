"""Inception-ResNet v2: modules of few branches, whose scaled sum with their input goes on.

Szegedy, Ioffe, Vanhoucke, Alemi 2016, "Inception-v4, Inception-ResNet and the Impact of Residual
Connections on Learning": figures 15 to 19, as in the authors' released network. State-dict keys are timm's.

Faithful: the branches, scaled sums without normalisation on them. Deviates, as released: v3's stem, where
the paper has v4's; ten, twenty and ten modules, where it draws five, ten and five; other widths; a last
module without scale and ReLU, a 1x1 convolution behind it. Initialisation and auxiliary classifier: see v4.
"""

from torch import Tensor, nn

from zoo_inception.blocks import ConvUnit, concatenate
from zoo_inception.inception_v4 import average
from zoo_inception.network import Branches, Network, chain, unit


class ScaledResidual(nn.Module):
    """ReLU(x + ``scale`` f(x)), or without ReLU; B ``chans`` h w to B ``chans`` h w.

    f joins ``branches``, of ``width`` maps together, and brings them back to ``chans`` by a 1x1
    convolution with bias, without normalisation and ReLU. The paper scales by 0.1 to 0.3, without
    which training of more than a thousand maps dies.
    """

    def __init__(self, chans: int, width: int, *branches: nn.Module, scale: float, has_relu: bool = True) -> None:
        super().__init__()
        self.scale = scale
        self.branches = len(branches)
        for index, branch in enumerate(branches):
            self.add_module(f"branch{index}", branch)
        self.conv2d = nn.Conv2d(width, chans, kernel_size=1)
        self.act = nn.ReLU() if has_relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.get_submodule(f"branch{index}")(x) for index in range(self.branches)]
        out: Tensor = self.act(x + self.scale * self.conv2d(concatenate(maps)))
        return out


def _block35(chans: int = 320) -> ScaledResidual:
    """Figure 16, at 35x35."""
    return ScaledResidual(
        chans,
        32 + 32 + 64,
        unit(chans, 32, 1),
        chain(chans, (32, 1), (32, 3)),
        chain(chans, (32, 1), (48, 3), (64, 3)),
        scale=0.17,
    )


def _block17(chans: int = 1088) -> ScaledResidual:
    """Figure 17, at 17x17."""
    return ScaledResidual(
        chans, 192 + 192, unit(chans, 192, 1), chain(chans, (128, 1), (160, (1, 7)), (192, (7, 1))), scale=0.1
    )


def _block8(chans: int = 2080, *, is_last: bool = False) -> ScaledResidual:
    """Figure 19, at 8x8; the last adds all of its branches and ends without ReLU."""
    return ScaledResidual(
        chans,
        192 + 256,
        unit(chans, 192, 1),
        chain(chans, (192, 1), (224, (1, 3)), (256, (3, 1))),
        scale=1.0 if is_last else 0.2,
        has_relu=not is_last,
    )


def _mixed_5b(chans: int = 192) -> Branches:
    """B 192 h w to B 320 h w."""
    return Branches(
        branch0=unit(chans, 96, 1),
        branch1=chain(chans, (48, 1), (64, 5)),
        branch2=chain(chans, (64, 1), (96, 3), (96, 3)),
        branch3=nn.Sequential(average(), unit(chans, 64, 1)),
    )


def _mixed_6a(chans: int = 320) -> Branches:
    """Figure 7 with k, l, m, n = 256, 256, 384, 384: B 320 h w to B 1088 h/2 w/2."""
    return Branches(
        branch0=unit(chans, 384, 3, 2),
        branch1=chain(chans, (256, 1), (256, 3), (384, 3, 2)),
        branch2=nn.MaxPool2d(kernel_size=3, stride=2),
    )


def _mixed_7a(chans: int = 1088) -> Branches:
    """Figure 18: B 1088 h w to B 2080 h/2 w/2."""
    return Branches(
        branch0=chain(chans, (256, 1), (384, 3, 2)),
        branch1=chain(chans, (256, 1), (288, 3, 2)),
        branch2=chain(chans, (256, 1), (288, 3), (320, 3, 2)),
        branch3=nn.MaxPool2d(kernel_size=3, stride=2),
    )


class InceptionResNetV2(Network):
    """v3's stem and one module, ten residual modules at 35x35, twenty at 17x17, ten at 8x8, 1x1, linear layer."""

    classifier = "classif"

    def __init__(self, *, drop_rate: float, num_classes: int, in_chans: int) -> None:
        super().__init__(num_features=1536, drop_rate=drop_rate)
        self.conv2d_1a = unit(in_chans, 32, 3, 2)
        self.conv2d_2a = ConvUnit(32, 32, 3)
        self.conv2d_2b = unit(32, 64, 3)
        self.maxpool_3a = nn.MaxPool2d(kernel_size=3, stride=2)
        self.conv2d_3b = unit(64, 80, 1)
        self.conv2d_4a = ConvUnit(80, 192, 3)
        self.maxpool_5a = nn.MaxPool2d(kernel_size=3, stride=2)
        self.mixed_5b = _mixed_5b()
        self.repeat = nn.Sequential(*(_block35() for _ in range(10)))
        self.mixed_6a = _mixed_6a()
        self.repeat_1 = nn.Sequential(*(_block17() for _ in range(20)))
        self.mixed_7a = _mixed_7a()
        self.repeat_2 = nn.Sequential(*(_block8() for _ in range(9)))
        self.block8 = _block8(is_last=True)
        self.conv2d_7b = unit(2080, self.num_features, 1)
        self.feature_info = [
            {"num_chs": 64, "reduction": 2, "module": "conv2d_2b"},
            {"num_chs": 192, "reduction": 4, "module": "conv2d_4a"},
            {"num_chs": 320, "reduction": 8, "module": "repeat"},
            {"num_chs": 1088, "reduction": 16, "module": "repeat_1"},
            {"num_chs": 1536, "reduction": 32, "module": "conv2d_7b"},
        ]
        self.reset_classifier(num_classes)
        self.initialise()

    def forward_features(self, x: Tensor) -> Tensor:
        """Images B C H W to features B 1536 h w; sizes are those of 299x299."""
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))  # B 64 147 147
        x = self.conv2d_4a(self.conv2d_3b(self.maxpool_3a(x)))  # B 192 71 71
        x = self.repeat(self.mixed_5b(self.maxpool_5a(x)))  # B 320 35 35
        x = self.repeat_1(self.mixed_6a(x))  # B 1088 17 17
        x = self.block8(self.repeat_2(self.mixed_7a(x)))  # B 2080 8 8
        features: Tensor = self.conv2d_7b(x)
        return features


def inception_resnet_v2(*, drop_rate: float = 0.2, num_classes: int = 1000, in_chans: int = 3) -> InceptionResNetV2:
    """The network for images of 299x299, or of 75x75 at least."""
    return InceptionResNetV2(drop_rate=drop_rate, num_classes=num_classes, in_chans=in_chans)
