"""Inception v3: factorised convolutions in three kinds of module, and two that halve the maps.

Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2015, "Rethinking the Inception Architecture for Computer
Vision": figures 5 to 10, with widths and stem of the authors' released network. State-dict keys are
torchvision's, which are timm's.

Faithful: the modules, batch normalisation in the auxiliary classifier too, labels smoothed (recipe).
Deviates: the stem is not table 1's. Means over 3x3 count the padding as zeros, as in torchvision and timm;
TensorFlow's and Keras's do not, which ``count_include_pad=False`` gives. The paper states no initialisation:
filters are drawn with torchvision's deviations, cut off at two of them. Dropout is 0.2, as in TF-Slim;
torchvision has 0.5.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from zoo.modules import create_linear
from zoo_inception.blocks import ConvUnit, concatenate
from zoo_inception.network import Network, unit


def _average(count_include_pad: bool) -> nn.AvgPool2d:
    """Builds 3x3 means; the padding counts as zeros in torchvision and timm, and does not in TensorFlow and Keras."""
    return nn.AvgPool2d(kernel_size=3, stride=1, padding=1, count_include_pad=count_include_pad)


class InceptionA(nn.Module):
    """Figure 5, with one 5x5 kept: 1x1, 5x5, two 3x3, pool; B ``in_chans`` h w to B (224 + ``pool_chans``) h w."""

    def __init__(self, in_chans: int, pool_chans: int, *, count_include_pad: bool) -> None:
        super().__init__()
        self.branch1x1 = unit(in_chans, 64, 1)
        self.branch5x5_1 = unit(in_chans, 48, 1)
        self.branch5x5_2 = unit(48, 64, 5)
        self.branch3x3dbl_1 = unit(in_chans, 64, 1)
        self.branch3x3dbl_2 = unit(64, 96, 3)
        self.branch3x3dbl_3 = unit(96, 96, 3)
        self.pool = _average(count_include_pad)
        self.branch_pool = unit(in_chans, pool_chans, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return concatenate([self.branch1x1(x), five, three, self.branch_pool(self.pool(x))])


class InceptionB(nn.Module):
    """Figure 10, from 35x35 to 17x17: 3x3, two 3x3, pool, each at last of stride 2; B 288 h w to B 768 h/2 w/2."""

    def __init__(self, in_chans: int) -> None:
        super().__init__()
        self.branch3x3 = unit(in_chans, 384, 3, 2)
        self.branch3x3dbl_1 = unit(in_chans, 64, 1)
        self.branch3x3dbl_2 = unit(64, 96, 3)
        self.branch3x3dbl_3 = unit(96, 96, 3, 2)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return concatenate([self.branch3x3(x), three, self.pool(x)])


class InceptionC(nn.Module):
    """Figure 6 with n = 7: 1x1, 7x7 and two 7x7 as 1x7 and 7x1 of ``width``, pool; B 768 h w to B 768 h w."""

    def __init__(self, in_chans: int, width: int, *, count_include_pad: bool) -> None:
        super().__init__()
        self.branch1x1 = unit(in_chans, 192, 1)
        self.branch7x7_1 = unit(in_chans, width, 1)
        self.branch7x7_2 = unit(width, width, (1, 7))
        self.branch7x7_3 = unit(width, 192, (7, 1))
        self.branch7x7dbl_1 = unit(in_chans, width, 1)
        self.branch7x7dbl_2 = unit(width, width, (7, 1))
        self.branch7x7dbl_3 = unit(width, width, (1, 7))
        self.branch7x7dbl_4 = unit(width, width, (7, 1))
        self.branch7x7dbl_5 = unit(width, 192, (1, 7))
        self.pool = _average(count_include_pad)
        self.branch_pool = unit(in_chans, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return concatenate([self.branch1x1(x), seven, twice, self.branch_pool(self.pool(x))])


class InceptionD(nn.Module):
    """A module from 17x17 to 8x8: 3x3, 7x7 and 3x3, pool, each at last of stride 2; B 768 h w to B 1280 h/2 w/2."""

    def __init__(self, in_chans: int) -> None:
        super().__init__()
        self.branch3x3_1 = unit(in_chans, 192, 1)
        self.branch3x3_2 = unit(192, 320, 3, 2)
        self.branch7x7x3_1 = unit(in_chans, 192, 1)
        self.branch7x7x3_2 = unit(192, 192, (1, 7))
        self.branch7x7x3_3 = unit(192, 192, (7, 1))
        self.branch7x7x3_4 = unit(192, 192, 3, 2)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return concatenate([self.branch3x3_2(self.branch3x3_1(x)), self.branch7x7x3_4(seven), self.pool(x)])


class InceptionE(nn.Module):
    """Figure 7: 1x1, 3x3 as 1x3 beside 3x1, the same behind a 3x3, pool; B ``in_chans`` h w to B 2048 h w."""

    def __init__(self, in_chans: int, *, count_include_pad: bool) -> None:
        super().__init__()
        self.branch1x1 = unit(in_chans, 320, 1)
        self.branch3x3_1 = unit(in_chans, 384, 1)
        self.branch3x3_2a = unit(384, 384, (1, 3))
        self.branch3x3_2b = unit(384, 384, (3, 1))
        self.branch3x3dbl_1 = unit(in_chans, 448, 1)
        self.branch3x3dbl_2 = unit(448, 384, 3)
        self.branch3x3dbl_3a = unit(384, 384, (1, 3))
        self.branch3x3dbl_3b = unit(384, 384, (3, 1))
        self.pool = _average(count_include_pad)
        self.branch_pool = unit(in_chans, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        maps = [
            self.branch1x1(x),
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(twice),
            self.branch3x3dbl_3b(twice),
            self.branch_pool(self.pool(x)),
        ]
        return concatenate(maps)


class AuxiliaryClassifier(nn.Module):
    """Figure 8: mean over 5x5 of stride 3, 1x1, a batch-normalised layer over 5x5, linear; B 768 h w to B classes.

    Maps smaller than the 17x17 of images of 299x299 are averaged to 5x5 as well as it goes. ``fc`` is its
    owner's to set.
    """

    def __init__(self, in_chans: int) -> None:
        super().__init__()
        self.conv0 = unit(in_chans, 128, 1)
        self.conv1 = ConvUnit(128, 768, 5)
        self.fc: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        is_small = min(x.shape[2:]) < 17
        x = F.adaptive_avg_pool2d(x, 5) if is_small else F.avg_pool2d(x, kernel_size=5, stride=3)
        x = self.conv1(self.conv0(x))  # B 128 5 5 -> B 768 1 1
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits

    def initialize(self) -> None:
        """Draws as the network, but with standard deviations of 0.01 and 0.001 in the last two layers."""
        _draw(self, 0.1)
        _draw(self.conv1, 0.01)
        _draw(self.fc, 0.001)


def _draw(part: nn.Module, std: float) -> None:
    """Weights of ``part`` from a normal distribution that is cut off at two standard deviations; biases 0."""
    for module in part.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class InceptionV3(Network):
    """Six convolutions, three modules A at 35x35, four C at 17x17, two E at 8x8, global average, linear layer.

    With ``aux``, the output in training is the logits and those of ``AuxLogits``, which stands on the last
    of the modules C. In evaluation it is the logits alone. It is for images of 299x299, or of 75x75 at least.
    ``count_include_pad`` is whether means over 3x3 count the padding: torchvision's do, TensorFlow's do not.
    """

    aux_weight = 0.4
    """The weight of the auxiliary classifier's loss, where that of the logits counts 1."""

    def __init__(
        self,
        *,
        aux: bool = False,
        count_include_pad: bool = True,
        drop_rate: float = 0.2,
        num_classes: int = 1000,
        in_chans: int = 3,
    ) -> None:
        super().__init__(num_features=2048, drop_rate=drop_rate)
        means = {"count_include_pad": count_include_pad}
        self.Conv2d_1a_3x3 = unit(in_chans, 32, 3, 2)
        self.Conv2d_2a_3x3 = ConvUnit(32, 32, 3)
        self.Conv2d_2b_3x3 = unit(32, 64, 3)
        self.Pool1 = nn.MaxPool2d(kernel_size=3, stride=2)
        self.Conv2d_3b_1x1 = unit(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvUnit(80, 192, 3)
        self.Pool2 = nn.MaxPool2d(kernel_size=3, stride=2)
        self.Mixed_5b = InceptionA(192, pool_chans=32, **means)
        self.Mixed_5c = InceptionA(256, pool_chans=64, **means)
        self.Mixed_5d = InceptionA(288, pool_chans=64, **means)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b = InceptionC(768, 128, **means)
        self.Mixed_6c = InceptionC(768, 160, **means)
        self.Mixed_6d = InceptionC(768, 160, **means)
        self.Mixed_6e = InceptionC(768, 192, **means)
        self.AuxLogits = AuxiliaryClassifier(768) if aux else None
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b = InceptionE(1280, **means)
        self.Mixed_7c = InceptionE(2048, **means)
        self.note_stage("Conv2d_2b_3x3", 64, 2)
        self.note_stage("Conv2d_4a_3x3", 192, 4)
        self.note_stage("Mixed_5d", 288, 8)
        self.note_stage("Mixed_6e", 768, 16)
        self.note_stage("Mixed_7c", 2048, 32)
        self.reset_classifier(num_classes)
        self.initialize()

    def initialize(self) -> None:
        """Draws normal weights within two standard deviations of 0.1; biases 0. The auxiliary classifier draws its
        own."""
        _draw(self, 0.1)
        if self.AuxLogits is not None:
            self.AuxLogits.initialize()

    def add_auxiliary_heads(self) -> None:
        """Makes a new auxiliary classifier for training, on the device and of the type of the network."""
        like = next(self.parameters())
        self.AuxLogits = AuxiliaryClassifier(768).to(device=like.device, dtype=like.dtype)
        self.AuxLogits.fc = create_linear(768, self.num_classes, like=next(self.parameters()))
        self.AuxLogits.initialize()
        self.AuxLogits.train(self.training)

    def drop_auxiliary_heads(self) -> None:
        self.AuxLogits = None

    @property
    def has_auxiliary_heads(self) -> bool:
        return self.AuxLogits is not None

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces as in the base, for the auxiliary classifier too."""
        super().reset_classifier(num_classes, global_pool)
        if self.AuxLogits is not None:
            fc = create_linear(768, self.num_classes, like=next(self.parameters()))
            self.AuxLogits.fc = fc.train(self.training)

    def forward_trunk(self, x: Tensor) -> Tensor:
        """Maps images B C H W to the maps B 768 h w that the auxiliary classifier stands on; sizes are those of
        299x299."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # B 64 147 147
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(self.Pool1(x)))  # B 192 71 71
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(self.Pool2(x))))  # B 288 35 35
        x = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))  # B 768 17 17
        trunk: Tensor = self.Mixed_6e(self.Mixed_6d(x))
        return trunk

    def forward_top(self, x: Tensor) -> Tensor:
        """Maps B 768 h w to the features B 2048 h/2 w/2: 8x8 of 17x17."""
        features: Tensor = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return features

    def forward_features(self, x: Tensor) -> Tensor:
        return self.forward_top(self.forward_trunk(x))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        trunk = self.forward_trunk(x)
        features = self.forward_top(trunk)
        logits = features if self.is_headless else self.forward_head(features)
        if self.training and self.AuxLogits is not None:
            return logits, self.AuxLogits(trunk)
        return logits
