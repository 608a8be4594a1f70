"""What Inception v3, v4 and Inception-ResNet share: parallel branches, and the end with timm's interface to it."""

from typing import ClassVar

from torch import Tensor, nn

from zoo_inception.blocks import ConvUnit, Size, concatenate, global_pool_layer


def unit(in_chans: int, out_chans: int, kernel: Size, stride: int = 1) -> ConvUnit:
    """A unit that keeps the size of the maps, or, with ``stride`` 2, has no padding."""
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (height // 2, width // 2) if stride == 1 else 0
    return ConvUnit(in_chans, out_chans, kernel, stride=stride, padding=padding)


def chain(in_chans: int, *units: tuple[int, Size] | tuple[int, Size, int]) -> nn.Sequential:
    """One :func:`unit` after the other, each given by its width, its kernel and, where it is not 1, its stride."""
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


class Network(nn.Module):
    """Base of a network that ends in a global pool, dropout and one linear layer, called ``classifier``.

    Subclasses compute ``forward_features`` and set ``feature_info``.
    """

    classifier: ClassVar[str]
    """Name of the linear layer in the state dict."""
    feature_info: list[dict[str, object]]
    """Per stage: ``num_chs`` channels, ``reduction`` of the input's size, name of the ``module``."""

    def __init__(self, *, num_features: int, drop_rate: float) -> None:
        super().__init__()
        self.num_features = num_features
        self.head_drop = nn.Dropout(drop_rate)

    @property
    def default_layers(self) -> tuple[str, ...]:
        """Names of the modules that are worth looking at."""
        return tuple(str(stage["module"]) for stage in self.feature_info)

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        """Replaces the classifier by a new one; 0 classes leave it out.

        ``global_pool`` is ``avg``, ``max``, or the empty string for none, which needs 0 classes.
        Raises :class:`SpecError` for anything else.
        """
        self.global_pool = global_pool_layer(global_pool, num_classes)
        self.num_classes = num_classes
        setattr(self, self.classifier, self._linear(self.num_features))

    def _linear(self, in_features: int) -> nn.Module:
        """A new linear layer to the classes, on the network's device and of its type; none where there are 0."""
        if not self.num_classes:
            return nn.Identity()
        like = next(self.parameters())
        return nn.Linear(in_features, self.num_classes, device=like.device, dtype=like.dtype)

    def get_classifier(self) -> nn.Module:
        return self.get_submodule(self.classifier)

    def forward_features(self, x: Tensor) -> Tensor:
        """Images B C H W to the last stage's features B num_features h w."""
        raise NotImplementedError

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features B num_features h w to logits B num_classes, or the pooled features where ``pre_logits``."""
        x = self.head_drop(self.global_pool(x))
        return x if pre_logits else self.get_classifier()(x)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.forward_head(self.forward_features(x))

    def initialise(self) -> None:
        """He's initialisation by the fan of the input, as in the authors' TF-Slim; biases are 0.

        TF-Slim cuts the normal distribution off at two standard deviations, which this does not.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
