"""Inception-ResNet v1: residual modules at about the cost of Inception v3.

Szegedy, Ioffe, Vanhoucke, Alemi 2016, "Inception-v4, Inception-ResNet and the Impact of Residual
Connections on Learning": figures 10 to 15. State-dict keys are those of facenet-pytorch, whose weights
know faces.

Deviates, as the public implementations do: pooled features are brought to 512 before the classifier, and
there is a sixth module at 8x8, without scale and ReLU. Initialisation: see v4.
"""

from torch import Tensor, nn

from zoo_inception.blocks import ConvUnit
from zoo_inception.inception_resnet_v2 import ScaledResidual
from zoo_inception.network import Branches, Network, chain, unit

_EMBEDDING = 512


def _block35(chans: int = 256) -> ScaledResidual:
    """Figure 10, at 35x35."""
    return ScaledResidual(
        chans,
        32 + 32 + 32,
        unit(chans, 32, 1),
        chain(chans, (32, 1), (32, 3)),
        chain(chans, (32, 1), (32, 3), (32, 3)),
        scale=0.17,
    )


def _block17(chans: int = 896) -> ScaledResidual:
    """Figure 11, at 17x17."""
    return ScaledResidual(
        chans, 128 + 128, unit(chans, 128, 1), chain(chans, (128, 1), (128, (1, 7)), (128, (7, 1))), scale=0.1
    )


def _block8(chans: int = 1792, *, is_last: bool = False) -> ScaledResidual:
    """Figure 13, at 8x8; the last adds all of its branches and ends without ReLU."""
    return ScaledResidual(
        chans,
        192 + 192,
        unit(chans, 192, 1),
        chain(chans, (192, 1), (192, (1, 3)), (192, (3, 1))),
        scale=1.0 if is_last else 0.2,
        has_relu=not is_last,
    )


def _mixed_6a(chans: int = 256) -> Branches:
    """Figure 7 with k, l, m, n = 192, 192, 256, 384: B 256 h w to B 896 h/2 w/2."""
    return Branches(
        branch0=unit(chans, 384, 3, 2),
        branch1=chain(chans, (192, 1), (192, 3), (256, 3, 2)),
        branch2=nn.MaxPool2d(kernel_size=3, stride=2),
    )


def _mixed_7a(chans: int = 896) -> Branches:
    """Figure 12: B 896 h w to B 1792 h/2 w/2."""
    return Branches(
        branch0=chain(chans, (256, 1), (384, 3, 2)),
        branch1=chain(chans, (256, 1), (256, 3, 2)),
        branch2=chain(chans, (256, 1), (256, 3), (256, 3, 2)),
        branch3=nn.MaxPool2d(kernel_size=3, stride=2),
    )


class InceptionResNetV1(Network):
    """Figure 14's stem, five residual modules at 35x35, ten at 17x17, six at 8x8, 512 features, linear layer."""

    classifier = "logits"

    def __init__(self, *, drop_rate: float, num_classes: int, in_chans: int) -> None:
        super().__init__(num_features=1792, drop_rate=drop_rate)
        self.head_hidden_size = _EMBEDDING
        self.conv2d_1a = unit(in_chans, 32, 3, 2)
        self.conv2d_2a = ConvUnit(32, 32, 3)
        self.conv2d_2b = unit(32, 64, 3)
        self.maxpool_3a = nn.MaxPool2d(kernel_size=3, stride=2)
        self.conv2d_3b = unit(64, 80, 1)
        self.conv2d_4a = ConvUnit(80, 192, 3)
        self.conv2d_4b = unit(192, 256, 3, 2)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = _mixed_6a()
        self.repeat_2 = nn.Sequential(*(_block17() for _ in range(10)))
        self.mixed_7a = _mixed_7a()
        self.repeat_3 = nn.Sequential(*(_block8() for _ in range(5)))
        self.block8 = _block8(is_last=True)
        self.last_linear = nn.Linear(self.num_features, _EMBEDDING, bias=False)
        self.last_bn = nn.BatchNorm1d(_EMBEDDING, eps=1e-3)
        self.feature_info = [
            {"num_chs": 64, "reduction": 2, "module": "conv2d_2b"},
            {"num_chs": 192, "reduction": 4, "module": "conv2d_4a"},
            {"num_chs": 256, "reduction": 8, "module": "repeat_1"},
            {"num_chs": 896, "reduction": 16, "module": "repeat_2"},
            {"num_chs": 1792, "reduction": 32, "module": "block8"},
        ]
        self.reset_classifier(num_classes)
        self.initialise()

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        """As in the base; without a global pool there are no 512 features either."""
        super().reset_classifier(num_classes, global_pool)
        self.logits = self._linear(_EMBEDDING)
        self.is_pooled = bool(global_pool)

    def forward_features(self, x: Tensor) -> Tensor:
        """Images B C H W to features B 1792 h w; sizes are those of 299x299."""
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))  # B 64 147 147
        x = self.conv2d_4a(self.conv2d_3b(self.maxpool_3a(x)))  # B 192 71 71
        x = self.repeat_1(self.conv2d_4b(x))  # B 256 35 35
        x = self.repeat_2(self.mixed_6a(x))  # B 896 17 17
        features: Tensor = self.block8(self.repeat_3(self.mixed_7a(x)))  # B 1792 8 8
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features B 1792 h w to logits B num_classes, or to the 512 features where ``pre_logits``."""
        x = self.head_drop(self.global_pool(x))
        if self.is_pooled:
            x = self.last_bn(self.last_linear(x))
        return x if pre_logits else self.logits(x)


def inception_resnet_v1(*, drop_rate: float = 0.2, num_classes: int = 1000, in_chans: int = 3) -> InceptionResNetV1:
    """The network for images of 299x299, or of 75x75 at least."""
    return InceptionResNetV1(drop_rate=drop_rate, num_classes=num_classes, in_chans=in_chans)
