"""The interface of a network, for type checkers and editors."""

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from typing import Any

    from torch import Tensor

    from zoo.loading.network import ModelInfo

    class Network(nn.Module):
        """A network that :func:`zoo.create` returns: a torch module with timm's model interface.

        At run time this name is ``torch.nn.Module``: a family's networks need no common base class.
        """

        zoo_info: ModelInfo
        """Name, weights, preprocessing and classes."""
        num_classes: int
        """Classes of the head; 0 if the network returns features."""
        num_features: int
        """Channels that ``forward_features`` returns."""
        feature_info: list[dict[str, Any]]
        """For each stage: ``module``, its name, ``num_chs``, its channels, and ``reduction``, its stride."""
        default_layers: tuple[str, ...]
        """Submodules to look at."""

        def forward_features(self, x: Tensor) -> Tensor:
            """Feature maps of the images ``x``, B C H W."""
            raise NotImplementedError

        def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
            """Logits of the feature maps ``x``; with ``pre_logits``, the pooled features before the classifier."""
            raise NotImplementedError

        def reset_classifier(self, num_classes: int) -> None:
            """Replaces the classifier by a newly initialised one; 0 classes remove it."""

else:
    Network = nn.Module
