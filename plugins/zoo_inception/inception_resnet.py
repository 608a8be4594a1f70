"""Inception-ResNet: modules of few branches, whose scaled sum with their input goes on.

Szegedy, Ioffe, Vanhoucke, Alemi 2016, "Inception-v4, Inception-ResNet and the Impact of Residual
Connections on Learning": figures 10 to 15 for v1, at about the cost of Inception v3, and 15 to 19 for v2, as in
the authors' released network. State-dict keys of v1 are those of facenet-pytorch, whose weights know faces, and
those of v2 are timm's.

Faithful: the branches, scaled sums without normalisation on them.

Deviates: a last module at 8x8 without scale and ReLU, as the public implementations have it. v1 brings pooled
features to 512 before the classifier, as they do. v2 is as released: v3's stem, where the paper has v4's; ten,
twenty and ten modules, where it draws five, ten and five; other widths; a 1x1 convolution behind the last
module. Initialisation and auxiliary classifier: see v4.
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


def _block35(chans: int, middle: int, last: int) -> ScaledResidual:
    """Figures 10 and 16, at 35x35."""
    return ScaledResidual(
        chans,
        32 + 32 + last,
        unit(chans, 32, 1),
        chain(chans, (32, 1), (32, 3)),
        chain(chans, (32, 1), (middle, 3), (last, 3)),
        scale=0.17,
    )


def _block17(chans: int, middle: int, last: int) -> ScaledResidual:
    """Figures 11 and 17, at 17x17."""
    branches = unit(chans, last, 1), chain(chans, (128, 1), (middle, (1, 7)), (last, (7, 1)))
    return ScaledResidual(chans, last + last, *branches, scale=0.1)


def _block8(chans: int, middle: int, last: int, *, ends: bool = False) -> ScaledResidual:
    """Figures 13 and 19, at 8x8; the module that ends them adds all of its branches and has no ReLU."""
    branches = unit(chans, 192, 1), chain(chans, (192, 1), (middle, (1, 3)), (last, (3, 1)))
    return ScaledResidual(chans, 192 + last, *branches, scale=1.0 if ends else 0.2, has_relu=not ends)


def _mixed_5b(chans: int = 192) -> Branches:
    """Maps B 192 h w to B 320 h w."""
    return Branches(
        branch0=unit(chans, 96, 1),
        branch1=chain(chans, (48, 1), (64, 5)),
        branch2=chain(chans, (64, 1), (96, 3), (96, 3)),
        branch3=nn.Sequential(average(), unit(chans, 64, 1)),
    )


def _mixed_6a(chans: int, k: int, m: int) -> Branches:
    """Builds figure 7 with l = k and n = 384: B ``chans`` h w to B (384 + m + ``chans``) h/2 w/2."""
    return Branches(
        branch0=unit(chans, 384, 3, 2),
        branch1=chain(chans, (k, 1), (k, 3), (m, 3, 2)),
        branch2=nn.MaxPool2d(kernel_size=3, stride=2),
    )


def _mixed_7a(chans: int, middle: int, last: int) -> Branches:
    """Figures 12 and 18: B ``chans`` h w to B (384 + ``middle`` + ``last`` + ``chans``) h/2 w/2."""
    return Branches(
        branch0=chain(chans, (256, 1), (384, 3, 2)),
        branch1=chain(chans, (256, 1), (middle, 3, 2)),
        branch2=chain(chans, (256, 1), (middle, 3), (last, 3, 2)),
        branch3=nn.MaxPool2d(kernel_size=3, stride=2),
    )


class InceptionResNet(Network):
    """The stem that both begin with; for images of 299x299, or of 75x75 at least."""

    def __init__(self, *, num_features: int, drop_rate: float, in_chans: int) -> None:
        super().__init__(num_features=num_features, drop_rate=drop_rate)
        self.conv2d_1a = unit(in_chans, 32, 3, 2)
        self.conv2d_2a = ConvUnit(32, 32, 3)
        self.conv2d_2b = unit(32, 64, 3)
        self.maxpool_3a = nn.MaxPool2d(kernel_size=3, stride=2)
        self.conv2d_3b = unit(64, 80, 1)
        self.conv2d_4a = ConvUnit(80, 192, 3)
        self.note_stage("conv2d_2b", 64, 2)
        self.note_stage("conv2d_4a", 192, 4)

    def forward_stem(self, x: Tensor) -> Tensor:
        """Maps images B C 299 299 to B 192 71 71."""
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))  # B 64 147 147
        maps: Tensor = self.conv2d_4a(self.conv2d_3b(self.maxpool_3a(x)))
        return maps


class InceptionResNetV1(InceptionResNet):
    """Figure 14's stem, five residual modules at 35x35, ten at 17x17, six at 8x8, 512 features, linear layer."""

    classifier_name = "logits"
    head_names = ("last_linear", "last_bn")

    def __init__(self, *, drop_rate: float = 0.2, num_classes: int = 1000, in_chans: int = 3) -> None:
        super().__init__(num_features=1792, drop_rate=drop_rate, in_chans=in_chans)
        self.head_hidden_size = 512
        self.conv2d_4b = unit(192, 256, 3, 2)
        self.repeat_1 = nn.Sequential(*(_block35(256, 32, 32) for _ in range(5)))
        self.mixed_6a = _mixed_6a(256, 192, 256)
        self.repeat_2 = nn.Sequential(*(_block17(896, 128, 128) for _ in range(10)))
        self.mixed_7a = _mixed_7a(896, 256, 256)
        self.repeat_3 = nn.Sequential(*(_block8(1792, 192, 192) for _ in range(5)))
        self.block8 = _block8(1792, 192, 192, ends=True)
        self.last_linear = nn.Linear(self.num_features, self.head_hidden_size, bias=False)
        self.last_bn = nn.BatchNorm1d(self.head_hidden_size, eps=1e-3)
        self.note_stage("repeat_1", 256, 8)
        self.note_stage("repeat_2", 896, 16)
        self.note_stage("block8", 1792, 32)
        self.reset_classifier(num_classes)
        self.initialize()

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images B C H W to features B 1792 h w; sizes are those of 299x299."""
        x = self.repeat_1(self.conv2d_4b(self.forward_stem(x)))  # B 256 35 35
        x = self.repeat_2(self.mixed_6a(x))  # B 896 17 17
        features: Tensor = self.block8(self.repeat_3(self.mixed_7a(x)))  # B 1792 8 8
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features B 1792 h w to logits B num_classes, or with ``pre_logits`` to the 512 features."""
        x = self.head_drop(self.global_pool(x))
        if self.pool:  # without one there are no 512 features either
            x = self.last_bn(self.last_linear(x))
        return x if pre_logits else self.get_classifier()(x)


class InceptionResNetV2(InceptionResNet):
    """v3's stem and one module, ten residual modules at 35x35, twenty at 17x17, ten at 8x8, 1x1, linear layer."""

    classifier_name = "classif"

    def __init__(self, *, drop_rate: float = 0.2, num_classes: int = 1000, in_chans: int = 3) -> None:
        super().__init__(num_features=1536, drop_rate=drop_rate, in_chans=in_chans)
        self.maxpool_5a = nn.MaxPool2d(kernel_size=3, stride=2)
        self.mixed_5b = _mixed_5b()
        self.repeat = nn.Sequential(*(_block35(320, 48, 64) for _ in range(10)))
        self.mixed_6a = _mixed_6a(320, 256, 384)
        self.repeat_1 = nn.Sequential(*(_block17(1088, 160, 192) for _ in range(20)))
        self.mixed_7a = _mixed_7a(1088, 288, 320)
        self.repeat_2 = nn.Sequential(*(_block8(2080, 224, 256) for _ in range(9)))
        self.block8 = _block8(2080, 224, 256, ends=True)
        self.conv2d_7b = unit(2080, self.num_features, 1)
        self.note_stage("repeat", 320, 8)
        self.note_stage("repeat_1", 1088, 16)
        self.note_stage("conv2d_7b", 1536, 32)
        self.reset_classifier(num_classes)
        self.initialize()

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images B C H W to features B 1536 h w; sizes are those of 299x299."""
        x = self.repeat(self.mixed_5b(self.maxpool_5a(self.forward_stem(x))))  # B 320 35 35
        x = self.repeat_1(self.mixed_6a(x))  # B 1088 17 17
        x = self.block8(self.repeat_2(self.mixed_7a(x)))  # B 2080 8 8
        features: Tensor = self.conv2d_7b(x)
        return features
