"""The interface of a network, for type checkers and editors."""

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from torch import Tensor

    from zoo.loading.network import ModelInfo
    from zoo.modules import FeatureInfo

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
        head_hidden_size: int
        """Inputs of the classifier."""
        in_chans: int
        """Channels of the input."""
        feature_info: FeatureInfo
        """The stages: ``module``, its name, ``num_chs``, its channels, and ``reduction``, its stride."""
        pretrained_cfg: dict[str, Any]
        """``zoo_info`` in timm's form."""
        default_cfg: dict[str, Any]
        """The same."""
        default_layers: tuple[str, ...]
        """Submodules to look at."""

        def forward_features(self, x: Tensor) -> Tensor:
            """Returns feature maps of the images ``x``, B C H W."""
            raise NotImplementedError

        def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
            """Logits of the feature maps ``x``; with ``pre_logits``, the pooled features before the classifier."""
            raise NotImplementedError

        def forward_intermediates(
            self,
            x: Tensor,
            indices: int | Sequence[int] | None = None,
            norm: bool = False,
            stop_early: bool = False,
            output_fmt: str = "NCHW",
            intermediates_only: bool = False,
        ) -> Any:
            """Returns the last features and a list of those of several stages; with ``intermediates_only``, the
            list.
            """

        def get_classifier(self) -> nn.Module:
            """Returns the layer from features to logits."""
            raise NotImplementedError

        def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
            """Replaces the classifier by a newly initialised one; 0 classes remove it."""

        def set_grad_checkpointing(self, enable: bool = True) -> None:
            """Computes activations again for the gradient instead of keeping them."""

        def group_matcher(self, coarse: bool = False) -> Callable[[str], Any] | dict[str, Any]:
            """Groups of parameters by their distance from the input, as timm's functions take them."""
            raise NotImplementedError

        def no_weight_decay(self) -> set[str]:
            """Names of parameters that weight decay should not touch."""
            raise NotImplementedError

else:
    Network = nn.Module
