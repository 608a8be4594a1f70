"""Chains of layers that a learning rule can take apart.

Lee, Zhang, Fischer, Bengio 2014, "Difference Target Propagation", section 3.1: the network for MNIST.
"""

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor, nn

from zoo.modules import ImageClassifier, check_choice, check_positive

Rule = Literal["dtp", "backprop", "feedback_alignment"]

_SIDE = 28
"""The side of an image, in pixels."""


class Layer(nn.Module):
    """tanh of a convolution; a hidden layer is one whose filters are as large as its maps, ``kernel`` x ``kernel``."""

    def __init__(self, in_chans: int, width: int, kernel: int, *, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.linear = nn.Conv2d(in_chans, width, kernel, stride=stride, padding=padding)
        self.act = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.linear(x))
        return out


class Chain(ImageClassifier):
    """``layers``, the last of which gives maps of 1x1, and a linear layer ``fc``.

    ``rule`` says how the train hook (``zoo_targetprop.training``) has it learn. While it does, ``teacher``
    may be a module that computes the network's output in training in its own way, from layers and images.
    """

    def __init__(self, layers: Sequence[Layer], *, rule: Rule, num_classes: int) -> None:
        check_choice("rule", rule, get_args(Rule))
        super().__init__()
        self.rule = rule
        self.layers = nn.ModuleList(layers)
        self.num_features = layers[-1].linear.out_channels
        side = _SIDE
        for index, layer in enumerate(layers):
            side = (side + 2 * layer.padding - layer.kernel) // layer.stride + 1
            self.note_stage(f"layers.{index}", layer.linear.out_channels, _SIDE // side)
        self.teacher: nn.Module | None = None
        self.reset_classifier(num_classes)
        self.initialize()

    def initialize(self) -> None:
        """Draws orthogonal weights, biases of 0: the authors' program."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.orthogonal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def hidden(self) -> list[Layer]:
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images B C H W to the last hidden layer B num_features 1 1."""
        for layer in self.layers:
            x = layer(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features B num_features 1 1 to logits B num_classes, or the features B num_features where ``pre_logits``."""
        return super().forward_head(x.flatten(1), pre_logits)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        if self.training and self.teacher is not None:
            taught: Tensor | tuple[Tensor, ...] = self.teacher(self.hidden, self.get_classifier(), x)
            return taught
        return super().forward(x)


def dtp_mlp(
    *, hidden: int = 240, depth: int = 7, rule: Rule = "dtp", num_classes: int = 10, in_chans: int = 1
) -> Chain:
    """Returns ``depth`` hidden layers of ``hidden`` tanh units for images of 28x28. Raises :class:`SpecError`."""
    check_positive(depth=depth, hidden=hidden)
    first = Layer(in_chans, hidden, 28)
    return Chain([first, *(Layer(hidden, hidden, 1) for _ in range(depth - 1))], rule=rule, num_classes=num_classes)


def dtp_conv(*, rule: Rule = "dtp", num_classes: int = 10, in_chans: int = 1) -> Chain:
    """Convolutions 3x3 of stride 2 to 32 and 64 maps, a hidden layer of 256, for images of 28x28."""
    layers = [
        Layer(in_chans, 32, 3, stride=2, padding=1),  # B 32 14 14
        Layer(32, 64, 3, stride=2, padding=1),  # B 64 7 7
        Layer(64, 256, 7),
    ]
    return Chain(layers, rule=rule, num_classes=num_classes)
