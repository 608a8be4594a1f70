"""A whitening layer, three groups of convolutions, a maximum over the map, a linear layer.

Jordan 2024, arXiv 2404.00498, section 3, and the scripts named in this package.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from zoo.errors import SpecError

PATCH = 2
"""Side of the patches that the first layer whitens."""
COMPONENTS = 24
"""Filters of the first layer: the 12 principal components of RGB patches, and their negatives."""


def _norm(chans: int, momentum: float) -> nn.BatchNorm2d:
    """Batch normalisation that learns its bias alone."""
    norm = nn.BatchNorm2d(chans, eps=1e-12, momentum=momentum)
    norm.weight.requires_grad_(False)
    return norm


def _conv(in_chans: int, out_chans: int) -> nn.Conv2d:
    """3x3, of which the first ``in_chans`` filters begin as the identity."""
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


class Airbench(nn.Module):
    """For images of 32 pixels: 31 after whitening, then 15, 7 and 3, of which the maximum is taken.

    ``whiten`` holds filters of principal components of 2x2 patches and their negatives; it begins at
    random and does not learn: the family's train hook sets it from the training images.
    """

    scale = 1 / 9

    def __init__(
        self, *, widths: Sequence[int], depth: int, norm_momentum: float, num_classes: int, in_chans: int
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
        self.feature_info = [
            {"num_chs": chans, "reduction": 2**index, "module": module}
            for index, (chans, module) in enumerate(
                [(COMPONENTS, "act"), (first, "group1"), (second, "group2"), (third, "group3")]
            )
        ]
        self.pool = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(1))  # B C h w -> B C
        self.num_features = third
        self.default_layers = ("whiten", "group1", "group2", "group3")
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Replaces ``fc``; 0 classes leave it out."""
        self.num_classes = num_classes
        like = self.whiten.weight
        self.fc: nn.Module = (
            nn.Linear(self.num_features, num_classes, bias=False, device=like.device, dtype=like.dtype)
            if num_classes
            else nn.Identity()
        )

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward_features(self, x: Tensor) -> Tensor:
        """Images B C 32 32 to B num_features 3 3."""
        x = self.act(self.whiten(x))
        out: Tensor = self.group3(self.group2(self.group1(x)))
        return out

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features to logits B num_classes, or to B num_features where ``pre_logits``."""
        x = self.pool(x)
        return x if pre_logits or not self.num_classes else self.fc(x) * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def airbench(
    *,
    widths: Sequence[int],
    depth: int = 2,
    norm_momentum: float = 0.4,
    num_classes: int = 10,
    in_chans: int = 3,
) -> Airbench:
    """The network with these ``widths`` of its groups and ``depth`` convolutions in each.

    ``norm_momentum`` is the share of a batch in the running statistics, torch's ``momentum``.
    """
    return Airbench(widths=widths, depth=depth, norm_momentum=norm_momentum, num_classes=num_classes, in_chans=in_chans)
