"""The base of this family's networks: features, a head, and constants that no weights file holds."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.modules import ImageClassifier


class Network(ImageClassifier):
    """``features``, then ``head``: all places of the maps in a row, perhaps a hidden layer, and the classifier ``fc``.

    ``pooled`` is the side to which the last maps are averaged, 0 where they are taken as they are, of
    side ``side``. ``stages`` has, for each module worth looking at, its name, channels, and reduction of
    the input's size; the last one's channels are ``num_features``.
    """

    classifier_name = "head.fc"
    head_names = ("head",)

    def __init__(
        self,
        features: nn.Module,
        stages: Sequence[tuple[str, int, int]],
        *,
        num_classes: int,
        side: int = 1,
        pooled: int = 0,
        hidden: int = 0,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.features = features
        for stage in stages:
            self.note_stage(*stage)
        self.num_features = stages[-1][1]
        width = self.num_features * (pooled or side) ** 2
        self.head_hidden_size = hidden or width
        """The features that the classifier is given of an image."""
        self.head = nn.Sequential()
        if pooled:
            self.head.add_module("pool", nn.AdaptiveAvgPool2d(pooled))
        self.head.add_module("flatten", nn.Flatten())  # B C h w -> B C*h*w
        if hidden:
            self.head.add_module("fc1", nn.Linear(width, hidden))
            self.head.add_module("act", nn.ReLU())
        self.head.add_module("drop", nn.Dropout(drop_rate))
        self.reset_classifier(num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images B C H W to B num_features h w."""
        out: Tensor = self.features(x)
        return out

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features B num_features h w to logits B num_classes, or to what ``fc`` is given where ``pre_logits``."""
        *layers, fc = self.head
        for layer in layers:
            x = layer(x)
        return x if pre_logits else fc(x)


def initialize(network: nn.Module) -> None:
    """Draws He's normal weights by the fan of the input, biases of 0, for convolutions and linear layers."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def constant(make: Callable[[], Tensor]) -> Tensor:
    """Returns what ``make`` computes on the CPU, on the device where modules are being built: on ``meta``, without
    values.

    For buffers that no state holds: they must be right however the module is built.
    """
    target = torch.empty(0).device
    with torch.device("cpu"):
        return make().to(target)


def precision_of(parameter: Tensor) -> torch.dtype:
    """Returns the type in which a layer computes that rounding would harm: float64 if it is in that, else float32."""
    return torch.float64 if parameter.dtype == torch.float64 else torch.float32


class PreciseLinear(nn.Linear):
    """A linear layer that computes in :func:`precision_of` its weights, also where autocast is on."""

    def forward(self, x: Tensor) -> Tensor:
        return precise(x, self.weight, self.bias)


class PreciseConv2d(nn.Conv2d):
    """A convolution that computes in :func:`precision_of` its weights, also where autocast is on."""

    def forward(self, x: Tensor) -> Tensor:
        return precise(x, self.weight, self.bias, self.stride, self.padding, self.dilation)


@torch.fx.wrap  # a tracer knows neither type nor device
def precise(x: Tensor, weight: Tensor, bias: Tensor | None, *places: Any) -> Tensor:
    """Computes :class:`PreciseConv2d` where there are ``places``, else :class:`PreciseLinear`."""
    with full_precision(x):
        dtype = precision_of(weight)
        compute: Callable[..., Tensor] = F.conv2d if places else F.linear
        return compute(x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype), *places)


def full_precision(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Makes a context within which what is computed on the device of ``x`` keeps its type, also where autocast is
    on."""
    return contextlib.nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
