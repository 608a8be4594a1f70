"""What the networks of this family end in, and timm's interface to it."""

from torch import Tensor, nn

from zoo.errors import SpecError

_POOLS = {"avg": nn.AdaptiveAvgPool2d, "max": nn.AdaptiveMaxPool2d}


class PooledClassifier(nn.Module):
    """Base of a network that ends in a global pool and one linear layer, ``fc``.

    Subclasses compute ``forward_features`` and set ``feature_info`` and ``default_layers``.
    """

    feature_info: list[dict[str, object]]
    """Per stage: ``num_chs`` channels, ``reduction`` of the input's size, name of the ``module``."""
    default_layers: tuple[str, ...]
    """Names of the modules that are worth looking at."""

    def __init__(self, *, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.num_classes = num_classes

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        """Replaces ``fc`` by a new one; 0 classes leave it out.

        ``global_pool`` is ``avg``, ``max``, or the empty string for none, which needs 0 classes.
        Raises :class:`SpecError` for anything else.
        """
        if global_pool not in (*_POOLS, ""):
            raise SpecError(f"global_pool = {global_pool!r} is not one of 'avg', 'max', ''.")
        if num_classes and not global_pool:
            raise SpecError(f"A classifier of {num_classes} classes needs a global pool: 'avg' or 'max'.")
        self.num_classes = num_classes
        self.global_pool: nn.Module = (
            nn.Sequential(_POOLS[global_pool](1), nn.Flatten(1))  # B C H W -> B C
            if global_pool
            else nn.Identity()
        )
        like = next(self.parameters())
        self.fc: nn.Module = (
            nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype)
            if num_classes
            else nn.Identity()
        )

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward_features(self, x: Tensor) -> Tensor:
        """Images B C H W to the last stage's features B num_features h w."""
        raise NotImplementedError

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features B num_features h w to logits B num_classes, or the pooled features where ``pre_logits``."""
        x = self.global_pool(x)
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def initialise(self) -> None:
        """He's initialisation by the fan of the output, as in fb.resnet.torch; biases are 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
