"""Networks in which every layer sees the maps of all layers before it in its block.

Huang, Liu, van der Maaten, Weinberger 2016, "Densely Connected Convolutional Networks": table 1 for
ImageNet, section 3 for 32x32 images. Checkpointing is Pleiss et al. 2017, arXiv 1707.06990. State-dict
keys are torchvision's, which are timm's.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal, TypedDict, Unpack, get_args

import torch
from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.modules import PooledClassifier, check_choice, count_units, he_initialize, recompute

InitialWidth = Literal["paper", "torch"]
Stem = Literal["imagenet", "small", "small_pool", "cifar"]

_IMAGENET: dict[int, tuple[int, tuple[int, ...]]] = {
    121: (32, (6, 12, 24, 16)),
    161: (48, (6, 12, 36, 24)),
    169: (32, (6, 12, 32, 32)),
    201: (32, (6, 12, 48, 32)),
    264: (32, (6, 12, 64, 48)),
}
"""Growth rate and layers of each block, by depth."""


class DenseLayer(nn.Module):
    """BN, ReLU and a 3x3 convolution make ``growth_rate`` maps of all maps before.

    With ``bottleneck``, BN, ReLU and a 1x1 convolution to four times ``growth_rate`` come first (B in
    the paper). ``memory_efficient`` keeps neither the joined maps nor what BN and ReLU make of them, and
    computes them again for the gradient.
    """

    def __init__(
        self, in_chans: int, growth_rate: int, *, bottleneck: bool, drop_rate: float, memory_efficient: bool
    ) -> None:
        super().__init__()
        self.bottleneck = bottleneck
        self.memory_efficient = memory_efficient
        width, kernel = (4 * growth_rate, 1) if bottleneck else (growth_rate, 3)
        self.norm1 = nn.BatchNorm2d(in_chans)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_chans, width, kernel_size=kernel, padding=kernel // 2, bias=False)
        self.drop1 = nn.Dropout(drop_rate)
        if bottleneck:
            self.norm2 = nn.BatchNorm2d(width)
            self.relu2 = nn.ReLU()
            self.conv2 = nn.Conv2d(width, growth_rate, kernel_size=3, padding=1, bias=False)
            self.drop2 = nn.Dropout(drop_rate)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Computes growth_rate more maps, B growth_rate h w, from all so far, each B C h w."""
        if self.memory_efficient:
            x = recompute(self._convolve, *maps, within=self.norm1, is_random=False)
        else:
            x = self._convolve(*maps)
        x = self.drop1(x)
        if self.bottleneck:
            x = self.drop2(self.conv2(self.relu2(self.norm2(x))))
        out: Tensor = x
        return out

    def _convolve(self, *maps: Tensor) -> Tensor:
        out: Tensor = self.conv1(self.relu1(self.norm1(torch.cat(maps, dim=1))))
        return out


class DenseBlock(nn.ModuleDict):
    """Layers ``denselayer1``, ``denselayer2``, ...; it gives its input and the maps of each, in that order."""

    def __init__(
        self,
        layers: int,
        in_chans: int,
        growth_rate: int,
        *,
        bottleneck: bool,
        drop_rate: float,
        memory_efficient: bool,
    ) -> None:
        super().__init__()
        for index in range(layers):
            self[f"denselayer{index + 1}"] = DenseLayer(
                in_chans + index * growth_rate,
                growth_rate,
                bottleneck=bottleneck,
                drop_rate=drop_rate,
                memory_efficient=memory_efficient,
            )

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for layer in self.values():
            maps.append(layer(maps))
        return torch.cat(maps, dim=1)


class Transition(nn.Sequential):
    """Between two blocks: BN, ReLU, a 1x1 convolution, an average over 2x2."""

    def __init__(self, in_chans: int, out_chans: int, *, drop_rate: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_chans)
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(in_chans, out_chans, kernel_size=1, bias=False)
        self.drop = nn.Dropout(drop_rate)
        self.pool = nn.AvgPool2d(kernel_size=2, stride=2)


class Options(TypedDict, total=False):
    """The arguments that both build functions pass on to :class:`DenseNet`."""

    drop_rate: float
    memory_efficient: bool
    num_classes: int
    in_chans: int


class DenseNet(PooledClassifier):
    """Stem, dense ``blocks`` with a transition after each but the last, BN, ReLU, global average, linear layer.

    ``stem`` is ``imagenet`` (7x7 of stride 2, BN, ReLU, max pool of stride 2), ``small`` (3x3, BN, ReLU),
    ``small_pool`` (the same and the pool) or ``cifar`` (3x3 alone), to ``init_chans`` maps. A transition keeps
    ``compression`` of the maps, rounded down. ``drop_rate`` acts after each convolution but the first.
    """

    classifier_name = "classifier"

    def __init__(
        self,
        *,
        blocks: Sequence[int],
        growth_rate: int,
        init_chans: int,
        stem: Stem,
        bottleneck: bool,
        compression: float,
        drop_rate: float = 0.0,
        memory_efficient: bool = False,
        num_classes: int = 1000,
        in_chans: int = 3,
    ) -> None:
        if not 0 < compression <= 1:
            raise SpecError(f"compression = {compression!r} must lie in (0, 1]: 0.5, or 1 for none.")
        check_choice("stem", stem, get_args(Stem))
        super().__init__()
        layers = _stem(stem, in_chans, init_chans)
        first = "conv0" if stem == "cifar" else "relu0"
        reduction = {"imagenet": 4, "small_pool": 2}.get(stem, 1)
        self.note_stage(f"features.{first}", init_chans, 2 if stem == "imagenet" else 1)
        chans = init_chans
        for number, depth in enumerate(blocks, start=1):
            layers[f"denseblock{number}"] = DenseBlock(
                depth,
                chans,
                growth_rate,
                bottleneck=bottleneck,
                drop_rate=drop_rate,
                memory_efficient=memory_efficient,
            )
            chans += depth * growth_rate
            if number < len(blocks):
                self.note_stage(f"features.denseblock{number}", chans, reduction)
                kept = int(chans * compression)
                layers[f"transition{number}"] = Transition(chans, kept, drop_rate=drop_rate)
                chans = kept
                reduction *= 2
        layers["norm5"] = nn.BatchNorm2d(chans)
        layers["relu5"] = nn.ReLU()
        self.note_stage("features.relu5", chans, reduction)
        self.features = nn.Sequential(layers)
        self.num_features = chans
        self.reset_classifier(num_classes)
        he_initialize(self, "fan_out")  # as in the authors' Torch file

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Switches ``memory_efficient`` for the network as it is."""
        for module in self.modules():
            if isinstance(module, DenseLayer):
                module.memory_efficient = enable

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images B C H W to B num_features h w, after the last BN and ReLU."""
        features: Tensor = self.features(x)
        return features


def _stem(kind: Stem, in_chans: int, out_chans: int) -> OrderedDict[str, nn.Module]:
    if kind == "imagenet":
        conv = nn.Conv2d(in_chans, out_chans, kernel_size=7, stride=2, padding=3, bias=False)
    else:
        conv = nn.Conv2d(in_chans, out_chans, kernel_size=3, padding=1, bias=False)
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv0=conv)
    if kind != "cifar":
        layers["norm0"], layers["relu0"] = nn.BatchNorm2d(out_chans), nn.ReLU()
    if kind in ("imagenet", "small_pool"):
        layers["pool0"] = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
    return layers


def densenet(
    *,
    depth: int,
    growth_rate: int | None = None,
    stem: Stem = "imagenet",
    blocks: Sequence[int] | None = None,
    **options: Unpack[Options],
) -> DenseNet:
    """Returns a network for ImageNet of ``depth`` 121, 161, 169, 201 or 264, with bottlenecks and compression by half.

    ``growth_rate`` and ``blocks``, layers a block, are table 1's unless given; the stem has twice as many maps as
    the growth rate. Networks for small images that others trained have these blocks behind another ``stem``
    (:class:`DenseNet`). Raises :class:`SpecError`.
    """
    check_choice("depth", depth, _IMAGENET)
    own_rate, own_blocks = _IMAGENET[depth]
    rate = own_rate if growth_rate is None else growth_rate
    return DenseNet(
        blocks=own_blocks if blocks is None else blocks,
        growth_rate=rate,
        init_chans=2 * rate,
        stem=stem,
        bottleneck=True,
        compression=0.5,
        **options,
    )


def cifar_densenet(
    *,
    depth: int,
    growth_rate: int,
    bottleneck: bool = False,
    compression: float = 1.0,
    initial_width: InitialWidth = "paper",
    stem: Stem = "cifar",
    **options: Unpack[Options],
) -> DenseNet:
    """Returns a network of three blocks for 32x32 images, of ``depth`` 3n + 4, or 6n + 4 with ``bottleneck``.

    ``initial_width``: with ``paper``, the stem has 16 maps, or twice ``growth_rate`` where there are
    both bottlenecks and compression; with ``torch``, twice ``growth_rate`` always, as in the authors'
    Torch file. Others normalize behind the first convolution: ``stem="small"`` (:class:`DenseNet`). Raises
    :class:`SpecError`.
    """
    step = 6 if bottleneck else 3
    hint = "The paper has 40 and 100 with bottleneck=False; 100, 190 and 250 with bottleneck=True."
    layers = count_units(depth, layers=step, others=4, hint=hint)
    check_choice("initial_width", initial_width, get_args(InitialWidth))
    is_wide = initial_width == "torch" or (bottleneck and compression < 1)
    settings: Options = {"num_classes": 10, **options}
    return DenseNet(
        blocks=[layers] * 3,
        growth_rate=growth_rate,
        init_chans=2 * growth_rate if is_wide else 16,
        stem=stem,
        bottleneck=bottleneck,
        compression=compression,
        **settings,
    )
