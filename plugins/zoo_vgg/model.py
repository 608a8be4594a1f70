"""Networks of 3x3 convolutions only.

Simonyan, Zisserman 2014, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
table 1. State-dict keys are timm's: ``features.N``, the hidden layers ``pre_logits.fc1`` and ``fc2``
as convolutions, ``head.fc``.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import SpecError
from zoo.modules import ImageClassifier, check_choice, create_classifier, create_pool

Initialization = Literal["he", "paper"]

_KERNELS: dict[str, tuple[tuple[int, ...], ...]] = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "B_5x5": ((5,), (5,), (5,), (5,), (5,)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}
"""Kernel sizes by configuration, of each block's convolutions. ``B_5x5`` is section 4.1's shallow net: B with a 5x5
convolution in place of each pair of 3x3."""
_WIDTHS = (64, 128, 256, 512, 512)
_HIDDEN = 4096
_GRID = 7  # what five poolings leave of 224 pixels


class HiddenLayers(nn.Module):
    """The two hidden fully connected layers, as convolutions 7x7 and 1x1.

    So a larger image gives a map of features, averaged later: the paper's dense evaluation. A
    smaller one is stretched to 7x7 first.
    """

    def __init__(self, in_chans: int, *, drop_rate: float) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(in_chans, _HIDDEN, kernel_size=_GRID)
        self.act1 = nn.ReLU()
        self.drop = nn.Dropout(drop_rate)
        self.fc2 = nn.Conv2d(_HIDDEN, _HIDDEN, kernel_size=1)
        self.act2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if not isinstance(height, torch.fx.Proxy) and min(height, width) < _GRID:  # torch.fx traces the usual sizes
            x = F.adaptive_avg_pool2d(x, (max(height, _GRID), max(width, _GRID)))
        x = self.drop(self.act1(self.fc1(x)))  # B 512 h w -> B 4096 h-6 w-6
        out: Tensor = self.act2(self.fc2(x))
        return out


class Head(nn.Module):
    """Global pool, dropout, linear layer ``fc``."""

    def __init__(self, num_features: int, num_classes: int, *, drop_rate: float) -> None:
        super().__init__()
        self.num_features = num_features
        self.drop = nn.Dropout(drop_rate)
        self.pool = "avg"
        self.reset(num_classes)

    def reset(self, num_classes: int, global_pool: str | None = None, like: Tensor | None = None) -> None:
        """Makes a new pool and ``fc``, on the device and of the type of ``like``; 0 classes leave ``fc`` out."""
        usual = (self.pool or "avg") if num_classes else self.pool
        pool = usual if global_pool is None else global_pool
        self.global_pool, self.fc = create_classifier(self.num_features, num_classes, pool, like=like)
        self.pool = pool
        self.train(self.training)

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.drop(self.global_pool(x))
        return x if pre_logits else self.fc(x)


class VGG(ImageClassifier):
    """Five blocks of convolutions, each followed by ReLU, with a 2x2 max pool after each block.

    ``configuration`` is table 1's letter, A to E, or ``B_5x5``; ``width`` scales all channels. ``norm``
    puts batch normalisation before each ReLU; the convolutions keep their bias. ``lrn`` puts AlexNet's
    response normalisation behind the first ReLU (A-LRN). Without ``hidden_layers`` the features go
    straight to the linear layer, as is usual for 32x32 images. Raises :class:`SpecError`.
    """

    classifier_name = "head.fc"
    head_names = ("pre_logits",)

    def __init__(
        self,
        *,
        configuration: str,
        width: float = 1.0,
        norm: bool = False,
        lrn: bool = False,
        hidden_layers: bool = True,
        drop_rate: float = 0.5,
        init: Initialization = "he",
        num_classes: int = 1000,
        in_chans: int = 3,
    ) -> None:
        check_choice("configuration", configuration, _KERNELS)
        check_choice("init", init, get_args(Initialization))
        if not width > 0:
            raise SpecError(f"width = {width!r} must be positive.")
        super().__init__()
        layers: list[nn.Module] = []
        chans = in_chans
        for index, (kernels, full) in enumerate(zip(_KERNELS[configuration], _WIDTHS, strict=True)):
            for kernel in kernels:
                out_chans = max(1, round(width * full))
                layers += _convolve(chans, out_chans, kernel=kernel, norm=norm)
                chans = out_chans
                if lrn and len(layers) == 2:
                    layers.append(nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0))
            self.note_stage(f"features.{len(layers) - 1}", chans, 2**index)
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        self.note_stage(f"features.{len(layers) - 1}", chans, 32)
        self.features = nn.Sequential(*layers)
        self.num_features = chans
        self.head_hidden_size = _HIDDEN if hidden_layers else chans
        self.num_classes = num_classes
        self.pre_logits: nn.Module = HiddenLayers(chans, drop_rate=drop_rate) if hidden_layers else nn.Identity()
        self.head = Head(self.head_hidden_size, num_classes, drop_rate=drop_rate)
        self.initialize(init)

    def initialize(self, init: Initialization) -> None:
        """Draws ``he``: torchvision's, by fan out, hidden layers N(0, 0.01^2). ``paper``: all N(0, 0.1^2); biases 0.

        The paper's 10^-2 is a variance, and its deeper networks start from configuration A's weights.
        """
        for name, module in self.named_modules():
            if not isinstance(module, nn.Conv2d | nn.Linear):
                continue
            if init == "paper":
                nn.init.normal_(module.weight, std=0.1)
            elif name.startswith("features"):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            else:
                nn.init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images B C H W to B 512 H/32 W/32."""
        features: Tensor = self.features(x)
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features B 512 h w to logits B num_classes, or to the hidden layers' output where ``pre_logits``."""
        out: Tensor = self.head(self.pre_logits(x), pre_logits=pre_logits)
        return out

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces ``head.fc`` by a new one; 0 classes leave it out.

        ``global_pool`` is ``avg``, ``max``, or the empty string for none, which needs 0 classes; by default as before.
        Raises :class:`SpecError` for anything else.
        """
        self.head.reset(num_classes, global_pool, like=next(self.parameters()))
        self.num_classes = num_classes

    def set_global_pool(self, pool: str) -> None:
        """Replaces the global pool alone. Raises :class:`SpecError`."""
        self.head.global_pool, self.head.pool = create_pool(pool, self.num_classes), pool


def _convolve(in_chans: int, out_chans: int, *, kernel: int, norm: bool) -> Sequence[nn.Module]:
    """Returns a convolution that keeps the size, batch normalisation if asked for, ReLU."""
    convolution = nn.Conv2d(in_chans, out_chans, kernel_size=kernel, padding=kernel // 2)
    return (convolution, nn.BatchNorm2d(out_chans), nn.ReLU()) if norm else (convolution, nn.ReLU())
