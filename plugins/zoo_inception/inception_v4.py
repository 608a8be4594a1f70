"""Inception v4: the modules of v3 made uniform, wider and more, on a stem that branches too.

Szegedy, Ioffe, Vanhoucke, Alemi 2016, "Inception-v4, Inception-ResNet and the Impact of Residual
Connections on Learning": figures 3 to 9, dropout 0.2. State-dict keys are timm's.

Deviates: the paper states no initialisation, here He's. TF-Slim trains with an auxiliary classifier, which
the figures do not have, and this has not.
"""

from torch import Tensor, nn

from zoo_inception.blocks import ConvUnit, concatenate
from zoo_inception.network import Branches, Network, chain, unit


def average() -> nn.AvgPool2d:
    """Builds 3x3 means over what lies within the maps, as in TensorFlow: the padding does not count."""
    return nn.AvgPool2d(kernel_size=3, stride=1, padding=1, count_include_pad=False)


def _half() -> nn.MaxPool2d:
    return nn.MaxPool2d(kernel_size=3, stride=2)


def _stem(in_chans: int) -> list[nn.Module]:
    """Builds figure 3: images B C 299 299 to B 384 35 35."""
    four = Branches(
        branch0=nn.Sequential(unit(160, 64, 1), ConvUnit(64, 96, 3)),
        branch1=nn.Sequential(*chain(160, (64, 1), (64, (1, 7)), (64, (7, 1))), ConvUnit(64, 96, 3)),
    )
    return [
        unit(in_chans, 32, 3, 2),
        ConvUnit(32, 32, 3),
        unit(32, 64, 3),  # B 64 147 147
        Branches(maxpool=_half(), conv=unit(64, 96, 3, 2)),  # B 160 73 73
        four,  # B 192 71 71
        Branches(conv=unit(192, 192, 3, 2), maxpool=_half()),
    ]


def _inception_a(chans: int = 384) -> Branches:
    """Builds figure 4: B 384 h w to B 384 h w."""
    return Branches(
        branch0=unit(chans, 96, 1),
        branch1=chain(chans, (64, 1), (96, 3)),
        branch2=chain(chans, (64, 1), (96, 3), (96, 3)),
        branch3=nn.Sequential(average(), unit(chans, 96, 1)),
    )


def _reduction_a(chans: int = 384) -> Branches:
    """Builds figure 7 with k, l, m, n = 192, 224, 256, 384: B 384 h w to B 1024 h/2 w/2."""
    return Branches(
        branch0=unit(chans, 384, 3, 2),
        branch1=chain(chans, (192, 1), (224, 3), (256, 3, 2)),
        branch2=_half(),
    )


def _inception_b(chans: int = 1024) -> Branches:
    """Builds figure 5: B 1024 h w to B 1024 h w."""
    return Branches(
        branch0=unit(chans, 384, 1),
        branch1=chain(chans, (192, 1), (224, (1, 7)), (256, (7, 1))),
        branch2=chain(chans, (192, 1), (192, (7, 1)), (224, (1, 7)), (224, (7, 1)), (256, (1, 7))),
        branch3=nn.Sequential(average(), unit(chans, 128, 1)),
    )


def _reduction_b(chans: int = 1024) -> Branches:
    """Builds figure 8: B 1024 h w to B 1536 h/2 w/2."""
    return Branches(
        branch0=chain(chans, (192, 1), (192, 3, 2)),
        branch1=chain(chans, (256, 1), (256, (1, 7)), (320, (7, 1)), (320, 3, 2)),
        branch2=_half(),
    )


class InceptionC(nn.Module):
    """Figure 6: two branches end in 1x3 beside 3x1; B 1536 h w to B 1536 h w."""

    def __init__(self, chans: int = 1536) -> None:
        super().__init__()
        self.branch0 = unit(chans, 256, 1)
        self.branch1_0 = unit(chans, 384, 1)
        self.branch1_1a = unit(384, 256, (1, 3))
        self.branch1_1b = unit(384, 256, (3, 1))
        self.branch2_0 = unit(chans, 384, 1)
        self.branch2_1 = unit(384, 448, (3, 1))
        self.branch2_2 = unit(448, 512, (1, 3))
        self.branch2_3a = unit(512, 256, (1, 3))
        self.branch2_3b = unit(512, 256, (3, 1))
        self.branch3 = nn.Sequential(average(), unit(chans, 256, 1))

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.branch1_0(x)
        two = self.branch2_2(self.branch2_1(self.branch2_0(x)))
        maps = [
            self.branch0(x),
            self.branch1_1a(reduced),
            self.branch1_1b(reduced),
            self.branch2_3a(two),
            self.branch2_3b(two),
            self.branch3(x),
        ]
        return concatenate(maps)


class InceptionV4(Network):
    """Figure 9: stem, four modules A at 35x35, seven B at 17x17, three C at 8x8, global average, linear layer.

    It is for images of 299x299, or of 75x75 at least.
    """

    classifier_name = "last_linear"

    def __init__(self, *, drop_rate: float = 0.2, num_classes: int = 1000, in_chans: int = 3) -> None:
        super().__init__(num_features=1536, drop_rate=drop_rate)
        layers = _stem(in_chans)
        layers += [_inception_a() for _ in range(4)]
        layers += [_reduction_a()]
        layers += [_inception_b() for _ in range(7)]
        layers += [_reduction_b()]
        layers += [InceptionC() for _ in range(3)]
        self.features = nn.Sequential(*layers)
        self.note_stage("features.2", 64, 2)
        self.note_stage("features.3", 160, 4)
        self.note_stage("features.9", 384, 8)
        self.note_stage("features.17", 1024, 16)
        self.note_stage("features.21", 1536, 32)
        self.reset_classifier(num_classes)
        self.initialize()

    def forward_features(self, x: Tensor) -> Tensor:
        features: Tensor = self.features(x)
        return features
