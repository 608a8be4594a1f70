"""torchvision's networks with timm's model interface. Their state-dict keys and outputs are torchvision's."""

# mypy: disable-error-code="misc, no-any-return, operator, union-attr"
# torchvision ships no types, so mypy knows neither the classes that these are derived from nor their submodules.

import re
from inspect import signature
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from zoo.errors import SpecError
from zoo.modules import FeatureInfo, ImageClassifier, create_linear
from zoo_torchvision import snapshot

_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
"""``norm.1.weight`` in DenseNet's files is ``norm1.weight`` in its networks."""


def build(*, arch: str, num_classes: int, in_chans: int, global_pool: str | None = None, **args: Any) -> "Network":
    """Builds torchvision's ``arch``, newly initialized; ``args`` are those of torchvision's function.

    An empty ``global_pool`` with 0 classes has it return the last features' maps.
    """
    if args.get("transform_input") and in_chans != 3:
        raise SpecError(
            f"{arch} with transform_input takes 3 channels, not {in_chans}.", hint="Set transform_input to false."
        )
    module = models.get_model(arch, weights=None, num_classes=num_classes or 1, **args)
    ours = OURS[type(module)]
    accepted = {
        name for part in (models.get_model_builder(arch), *ours.__mro__[:-1]) for name in signature(part).parameters
    }
    for name in args.keys() - accepted:  # some of torchvision's classes take any and say nothing
        raise TypeError(f"{arch}() got an unexpected keyword argument '{name}'")
    module.__class__ = ours  # its tensors and their names stay as they are
    module.adopt(snapshot.read().models[arch], num_classes, in_chans)
    if global_pool is not None:
        module.reset_classifier(num_classes, global_pool)
    return module


def translate(tensors: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Returns ``tensors`` of an older file under the names of ``module``, without auxiliary classifiers.

    Files from before torch 0.4.1 do not count the batches that normalisations have seen: they get a count of 0.
    """
    tensors = {_OLD_DENSENET.sub(r"\1\2", key): tensor for key, tensor in tensors.items()}
    counts = [key for key in module.state_dict() if key.endswith("num_batches_tracked") and key not in tensors]
    tensors |= {key: torch.tensor(0) for key in counts}
    return {key: tensor for key, tensor in tensors.items() if not key.startswith(_AUXILIARY)}


class Network(ImageClassifier):
    """timm's model interface for a network that torchvision has built.

    A subclass names the submodules that compute the features, in order, the first convolution, the part with the
    classifier, and the classifier.
    """

    trunk: ClassVar[tuple[str, ...]] = ("features",)
    stem_name: ClassVar[str] = "features.0.0"
    head_names: ClassVar[tuple[str, ...]] = ("classifier",)
    classifier_name: ClassVar[str] = "classifier.1"

    def adopt(self, about: snapshot.Architecture, num_classes: int, in_chans: int) -> None:
        """Adds the attributes of the interface, and adapts the network to ``num_classes`` and ``in_chans``."""
        self.num_features, self.num_classes = about.features, num_classes
        self.head_hidden_size = getattr(self.get_classifier(), "in_features", about.features)
        self.feature_info = FeatureInfo()
        for stage in about.stages:
            self.note_stage(*stage)
        if num_classes == 0:
            self.reset_classifier(0)
        if in_chans != (conv := self.get_submodule(self.stem_name)).in_channels:
            fields = (conv.out_channels, conv.kernel_size, conv.stride, conv.padding)
            parent, _, name = self.stem_name.rpartition(".")
            other = nn.Conv2d(in_chans, *fields, bias=conv.bias is not None)  # type: ignore[arg-type]  # a convolution's
            setattr(self.get_submodule(parent), name, other)

    def forward_features(self, x: Tensor) -> Tensor:
        for name in self.trunk:
            x = self.get_submodule(name)(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x, head, classifier = self.pool_features(x), self.get_submodule(self.head_names[0]), self.get_classifier()
        for part in head if isinstance(head, nn.Sequential) else (head,):
            x = x if pre_logits and part is classifier else part(x)
        return x.flatten(1)

    def pool_features(self, x: Tensor) -> Tensor:
        """Features B C h w to what the part with the classifier takes."""
        return self.avgpool(x).flatten(1)


class AlexNet(Network, models.AlexNet):
    stem_name, classifier_name = "features.0", "classifier.6"


class ConvNeXt(Network, models.ConvNeXt):
    classifier_name = "classifier.2"

    def pool_features(self, x: Tensor) -> Tensor:
        return self.avgpool(x)  # B C 1 1, which its head normalises


class DenseNet(Network, models.DenseNet):
    stem_name, classifier_name = "features.conv0", "classifier"

    def forward_features(self, x: Tensor) -> Tensor:
        return F.relu(self.features(x))

    def pool_features(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, (1, 1)).flatten(1)


class EfficientNet(Network, models.EfficientNet):
    pass


class GoogLeNet(Network, models.GoogLeNet):
    trunk = (
        *("conv1", "maxpool1", "conv2", "conv3", "maxpool2", "inception3a", "inception3b", "maxpool3"),
        *("inception4a", "inception4b", "inception4c", "inception4d", "inception4e", "maxpool4"),
        *("inception5a", "inception5b"),
    )
    stem_name, head_names, classifier_name = "conv1.conv", ("fc",), "fc"

    def forward_features(self, x: Tensor) -> Tensor:
        return super().forward_features(self._transform_input(x))

    def pool_features(self, x: Tensor) -> Tensor:
        return self.dropout(super().pool_features(x))


class Inception3(Network, models.Inception3):
    trunk = (
        *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2"),
        *("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
        *("Mixed_7a", "Mixed_7b", "Mixed_7c"),
    )
    stem_name, head_names, classifier_name = "Conv2d_1a_3x3.conv", ("fc",), "fc"

    def forward_features(self, x: Tensor) -> Tensor:
        return super().forward_features(self._transform_input(x))

    def pool_features(self, x: Tensor) -> Tensor:
        return self.dropout(super().pool_features(x))


class MNASNet(Network, models.MNASNet):
    trunk, stem_name = ("layers",), "layers.0"

    def pool_features(self, x: Tensor) -> Tensor:
        return x.mean([2, 3])

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *args: Any) -> None:
        # Without a version, as in a safetensors file, it would take the tensors for those of an older network.
        super()._load_from_state_dict(state_dict, prefix, {**local_metadata, "version": self._version}, *args)


class MaxVit(Network, models.MaxVit):
    trunk = ("stem", "blocks")
    stem_name, classifier_name = "stem.0.0", "classifier.5"

    def make_classifier(self, num_classes: int) -> nn.Module:
        return create_linear(self.head_hidden_size, num_classes, bias=False, like=next(self.parameters()))

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x

    def pool_features(self, x: Tensor) -> Tensor:
        return x  # its head begins with the pool


class MobileNetV2(Network, models.MobileNetV2):
    def pool_features(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, (1, 1)).flatten(1)


class MobileNetV3(Network, models.MobileNetV3):
    classifier_name = "classifier.3"


class RegNet(Network, models.RegNet):
    trunk = ("stem", "trunk_output")
    stem_name, head_names, classifier_name = "stem.0", ("fc",), "fc"


class ResNet(Network, models.ResNet):
    trunk = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    stem_name, head_names, classifier_name = "conv1", ("fc",), "fc"


class ShuffleNetV2(Network, models.ShuffleNetV2):
    trunk = ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5")
    stem_name, head_names, classifier_name = "conv1.0", ("fc",), "fc"

    def pool_features(self, x: Tensor) -> Tensor:
        return x.mean([2, 3])


class SqueezeNet(Network, models.SqueezeNet):
    stem_name = "features.0"

    def make_classifier(self, num_classes: int) -> nn.Module:
        like = next(self.parameters())
        kind: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        return nn.Conv2d(self.num_features, num_classes, 1, **kind) if num_classes else nn.Identity()

    def pool_features(self, x: Tensor) -> Tensor:
        return x  # its head ends with the pool


class SwinTransformer(Network, models.SwinTransformer):
    trunk = ("features", "norm", "permute")  # B h w C until permute
    head_names, classifier_name = ("head",), "head"


class VGG(Network, models.VGG):
    stem_name, classifier_name = "features.0", "classifier.6"


class VisionTransformer(Network, models.VisionTransformer):
    trunk = ("encoder.layers",)
    stem_name, head_names, classifier_name = "conv_proj", ("heads",), "heads.head"

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images B C H W to tokens B N num_features, the class token first."""
        x = self._process_input(x)
        return self.encoder(torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1))

    def pool_features(self, x: Tensor) -> Tensor:
        return x[:, 0]


OURS = {ours.__bases__[1]: ours for ours in Network.__subclasses__()}
"""The class here of each of torchvision's."""
