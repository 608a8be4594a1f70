"""A whitening layer, three groups of convolutions, a maximum over the map, a linear layer.

Jordan 2024, arXiv 2404.00498, section 3, and the scripts named in this package.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.modules import PooledClassifier, create_linear

PATCH = 2
"""Side of the patches that the first layer whitens."""
COMPONENTS = 24
"""Filters of the first layer: the 12 principal components of RGB patches, and their negatives."""


def _norm(chans: int, momentum: float) -> nn.BatchNorm2d:
    """Builds batch normalization that learns its bias alone."""
    norm = nn.BatchNorm2d(chans, eps=1e-12, momentum=momentum)
    norm.weight.requires_grad_(False)
    return norm


def _conv(in_chans: int, out_chans: int) -> nn.Conv2d:
    """Builds a 3x3 convolution of which the first ``in_chans`` filters begin as the identity."""
    conv = nn.Conv2d(in_chans, out_chans, kernel_size=3, padding=1, bias=False)
    nn.init.dirac_(conv.weight.data[:in_chans])
    return conv


class Group(nn.Module):
    """``depth`` convolutions, the first of them halving the map; with three, a shortcut past two."""

    def __init__(self, in_chans: int, width: int, *, depth: int, norm_momentum: float) -> None:
        super().__init__()
        self.depth = depth
        self.conv1 = _conv(in_chans, width)
        self.pool = nn.MaxPool2d(2)
        self.norm1 = _norm(width, norm_momentum)
        self.act1 = nn.GELU()
        self.conv2 = _conv(width, width)
        self.norm2 = _norm(width, norm_momentum)
        self.act2 = nn.GELU()
        if depth == 3:
            self.conv3 = _conv(width, width)
            self.norm3 = _norm(width, norm_momentum)
            self.act3 = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        x = shortcut = self.act1(self.norm1(self.pool(self.conv1(x))))
        x = self.act2(self.norm2(self.conv2(x)))
        if self.depth == 3:
            x = self.act3(self.norm3(self.conv3(x)) + shortcut)
        return x


class Airbench(PooledClassifier):
    """A network for images of 32 pixels: 31 after whitening, then 15, 7 and 3, of which the maximum is taken.

    ``widths`` are those of the three groups, ``depth`` the convolutions in each. ``whiten`` holds filters of
    principal components of 2x2 patches and their negatives; it begins at random and does not learn: the
    family's train hook sets it from the training images. ``norm_momentum`` is the share of a batch in the
    running statistics, torch's ``momentum``.
    """

    pool = "max"
    scale = 1 / 9

    def __init__(
        self,
        *,
        widths: Sequence[int],
        depth: int = 2,
        norm_momentum: float = 0.4,
        num_classes: int = 10,
        in_chans: int = 3,
    ) -> None:
        if len(widths) != 3 or depth not in (2, 3):
            raise SpecError(f"widths = {list(widths)}, depth = {depth}: expected three widths, and 2 or 3.")
        super().__init__()
        self.whiten = nn.Conv2d(in_chans, COMPONENTS, kernel_size=PATCH)
        self.whiten.weight.requires_grad_(False)
        nn.init.zeros_(self.whiten.bias)  # type: ignore[arg-type]  # it has one
        self.act = nn.GELU()
        first, second, third = widths
        self.group1 = Group(COMPONENTS, first, depth=depth, norm_momentum=norm_momentum)
        self.group2 = Group(first, second, depth=depth, norm_momentum=norm_momentum)
        self.group3 = Group(second, third, depth=depth, norm_momentum=norm_momentum)
        stages = ("act", COMPONENTS), ("group1", first), ("group2", second), ("group3", third)
        for index, (module, chans) in enumerate(stages):
            self.note_stage(module, chans, 2**index)
        self.num_features = third
        self.reset_classifier(num_classes)

    @property
    def default_layers(self) -> tuple[str, ...]:
        return "whiten", "group1", "group2", "group3"

    def make_classifier(self, num_classes: int) -> nn.Module:
        return create_linear(self.num_features, num_classes, bias=False, like=self.whiten.weight)

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images B C 32 32 to B num_features 3 3."""
        x = self.act(self.whiten(x))
        out: Tensor = self.group3(self.group2(self.group1(x)))
        return out

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features to logits B num_classes, or with ``pre_logits`` to B num_features."""
        x = super().forward_head(x, pre_logits)
        return x if pre_logits or not self.num_classes else x * self.scale
