"""The parts that Inception v3, v4 and Inception-ResNet share: parallel branches, and the end with timm's interface to
it."""

from torch import Tensor, nn

from zoo.modules import PooledClassifier, he_initialize
from zoo_inception.blocks import ConvUnit, Size, concatenate


def unit(in_chans: int, out_chans: int, kernel: Size, stride: int = 1) -> ConvUnit:
    """Returns a unit that keeps the size of the maps, or, with ``stride`` 2, has no padding."""
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (height // 2, width // 2) if stride == 1 else 0
    return ConvUnit(in_chans, out_chans, kernel, stride=stride, padding=padding)


def chain(in_chans: int, *units: tuple[int, Size] | tuple[int, Size, int]) -> nn.Sequential:
    """Returns one :func:`unit` after the other, each given by its width, its kernel and its stride, by default 1."""
    layers = []
    for how in units:
        width, kernel, stride = how if len(how) == 3 else (*how, 1)
        layers.append(unit(in_chans, width, kernel, stride))
        in_chans = width
    return nn.Sequential(*layers)


class Branches(nn.Module):
    """Modules that all see the same maps B C h w; theirs are joined in order, B (sum of widths) h' w'."""

    def __init__(self, **branches: nn.Module) -> None:
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        return concatenate([branch(x) for branch in self.children()])


class Network(PooledClassifier):
    """Base of the family's networks: a global pool, dropout, one linear layer."""

    def __init__(self, *, num_features: int, drop_rate: float) -> None:
        super().__init__()
        self.num_features = num_features
        self.head_drop = nn.Dropout(drop_rate)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features B num_features h w to logits B num_classes, or with ``pre_logits`` to the pooled features."""
        x = self.head_drop(self.global_pool(x))
        return x if pre_logits else self.get_classifier()(x)

    def initialize(self) -> None:
        """Draws He's normal weights by the fan of the input, as in the authors' TF-Slim; biases are 0.

        TF-Slim cuts the normal distribution off at two standard deviations, which this does not.
        """
        he_initialize(self, "fan_in")
