"""Networks of nine modules whose branches of 1x1, 3x3, 5x5 convolutions and a pool are concatenated.

Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich 2014, "Going Deeper with
Convolutions": table 1, section 5 for the auxiliary classifiers, figure 2 for the naive module.
State-dict keys are torchvision's.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from zoo.modules import ResponseNorm, check_choice
from zoo_inception.blocks import ConvUnit, concatenate
from zoo_inception.designs import DESIGNS, Design, Widths
from zoo_inception.network import Network

Initialization = Literal["caffe", "torchvision", "he"]


class Inception(nn.Module):
    """Branches of 1x1, 3x3, 5x5 and a 3x3 max pool on the same maps, concatenated in that order.

    1x1 convolutions reduce the maps before 3x3 and 5x5, and project those of the pool. Where ``naive``
    there are none of these (figure 2a), and the pool's branch passes all its maps on.
    """

    def __init__(self, in_chans: int, widths: Widths, *, five: int, norm: bool, naive: bool) -> None:
        super().__init__()
        pool = nn.MaxPool2d(kernel_size=3, stride=1, padding=1)
        self.branch1 = ConvUnit(in_chans, widths.one, 1, norm=norm)
        if naive:
            self.branch2 = nn.Sequential(ConvUnit(in_chans, widths.three, 3, padding=1, norm=norm))
            self.branch3 = nn.Sequential(ConvUnit(in_chans, widths.five, five, padding=five // 2, norm=norm))
            self.branch4 = nn.Sequential(pool)
        else:
            self.branch2 = nn.Sequential(
                ConvUnit(in_chans, widths.three_reduce, 1, norm=norm),
                ConvUnit(widths.three_reduce, widths.three, 3, padding=1, norm=norm),
            )
            self.branch3 = nn.Sequential(
                ConvUnit(in_chans, widths.five_reduce, 1, norm=norm),
                ConvUnit(widths.five_reduce, widths.five, five, padding=five // 2, norm=norm),
            )
            self.branch4 = nn.Sequential(pool, ConvUnit(in_chans, widths.pool, 1, norm=norm))
        self.out_chans = widths.one + widths.three + widths.five + (in_chans if naive else widths.pool)

    def forward(self, x: Tensor) -> Tensor:
        """Maps B C h w to B out_chans h w."""
        return concatenate([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)])


class AuxiliaryHead(nn.Module):
    """A classifier of a module's maps, for training alone: section 5.

    Averages over 5x5 of stride 3 make 4x4 of the paper's 14x14 maps. Where ``adaptive``, and with maps of
    another size, 4x4 averages are spread over the maps instead, like torchvision.
    """

    def __init__(self, in_chans: int, num_classes: int, *, norm: bool, adaptive: bool, drop_rate: float = 0.7) -> None:
        super().__init__()
        self.adaptive = adaptive
        self.conv = ConvUnit(in_chans, 128, 1, norm=norm)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.act = nn.ReLU()
        self.dropout = nn.Dropout(drop_rate)
        self.fc2 = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        is_papers = not self.adaptive and x.shape[2:] == (14, 14)
        x = F.avg_pool2d(x, kernel_size=5, stride=3) if is_papers else F.adaptive_avg_pool2d(x, 4)
        x = self.conv(x).flatten(1)  # B C 4 4 -> B 128 4 4 -> B 2048
        logits: Tensor = self.fc2(self.dropout(self.act(self.fc1(x))))
        return logits


class GoogLeNet(Network):
    """The network of a ``design``, a name in ``DESIGNS``. Raises :class:`SpecError`.

    With ``aux``, two auxiliary heads take the maps of 4a and 4d in training: its output is then logits,
    those of ``aux1``, those of ``aux2``. In evaluation it is the logits alone.
    """

    aux_weight = 0.3
    """The weight of each auxiliary head's loss, where that of the logits counts 1."""
    aux_inputs: ClassVar[Mapping[str, str]] = {"inception4a": "aux1", "inception4d": "aux2"}
    """The head that takes a module's maps, by the module."""

    def __init__(
        self,
        *,
        design: str = "2014",
        aux: bool = False,
        drop_rate: float = 0.4,
        init: Initialization = "caffe",
        num_classes: int = 1000,
        in_chans: int = 3,
    ) -> None:
        check_choice("design", design, DESIGNS)
        check_choice("init", init, get_args(Initialization))
        layers, stages, chans = _layers(DESIGNS[design], in_chans)
        super().__init__(num_features=chans, drop_rate=drop_rate)
        for stage in stages:
            self.note_stage(*stage)
        self.init = init
        self.design = DESIGNS[design]
        self.layers = tuple(layers)
        """The names of the layers before the head, in order."""
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.aux1: nn.Module | None = None
        self.aux2: nn.Module | None = None
        self.reset_classifier(num_classes)
        self.initialize()
        if aux:
            self.add_auxiliary_heads()

    def initialize(self) -> None:
        _draw(self, self.init)

    def add_auxiliary_heads(self) -> None:
        """Makes two new heads for training, on the device and of the type of the network."""
        like = next(self.parameters())
        for source, name in self.aux_inputs.items():
            chans: int = self.get_submodule(source).out_chans  # type: ignore[assignment]  # an Inception's
            head = AuxiliaryHead(chans, self.num_classes, norm=self.design.norm, adaptive=self.design.adaptive)
            _draw(head, self.init)
            setattr(self, name, head.to(device=like.device, dtype=like.dtype).train(self.training))

    def drop_auxiliary_heads(self) -> None:
        self.aux1 = self.aux2 = None

    @property
    def has_auxiliary_heads(self) -> bool:
        return self.aux1 is not None

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces as in the base; the auxiliary heads, where there are any, are new too, and gone with 0 classes."""
        super().reset_classifier(num_classes, global_pool)
        if self.has_auxiliary_heads:
            self.drop_auxiliary_heads()
            if num_classes:
                self.add_auxiliary_heads()

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images B C H W to B num_features h w."""
        return self._forward(x)[0]

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        features, *others = self._forward(x)
        logits = features if self.is_headless else self.forward_head(features)
        return (logits, *others) if others else logits

    def _forward(self, x: Tensor) -> list[Tensor]:
        """Returns the features and, in training, what the auxiliary heads give."""
        others: list[Tensor] = []
        heads = self.aux_inputs if self.training and self.has_auxiliary_heads else {}
        for name in self.layers:
            x = self.get_submodule(name)(x)
            if name in heads:
                others.append(self.get_submodule(heads[name])(x))
        return [x, *others]


def _layers(design: Design, in_chans: int) -> tuple[dict[str, nn.Module], list[tuple[str, int, int]], int]:
    """Returns the layers before the head by name; each stage's name, channels, reduction; the number of maps that
    come out.
    """
    stages: list[tuple[str, int, int]] = []
    chans, norm = design.stem_chans, design.norm
    if design.stem == "imagenet":
        layers = _imagenet_stem(design, in_chans)
        stages.append(("conv1", 64, 2))
        stages.append(("conv3", chans, 4))
        reduction = 8
    else:
        layers = {"conv1": ConvUnit(in_chans, chans, 3, padding=1, norm=norm)}
        stages.append(("conv1", chans, 1))
        reduction = 1
    for name, widths in design.modules.items():
        if name in ("4a", "5a"):
            layers["maxpool3" if name == "4a" else "maxpool4"] = _pool(3 if name == "4a" else design.last_pool)
            reduction *= 2
        module = Inception(chans, widths, five=design.five, norm=norm, naive=design.naive)
        layers[f"inception{name}"] = module
        chans = module.out_chans
        if name in ("3b", "4e", "5b"):
            stages.append((f"inception{name}", chans, reduction))
    return layers, stages, chans


def _imagenet_stem(design: Design, in_chans: int) -> dict[str, nn.Module]:
    """Maps images B C H W to B stem_chans H/8 W/8."""
    norm = design.norm
    layers: dict[str, nn.Module] = {"conv1": ConvUnit(in_chans, 64, 7, stride=2, padding=3, norm=norm)}
    layers["maxpool1"] = _pool(3)
    if design.lrn:
        layers["norm1"] = ResponseNorm(k=1.0)
    layers["conv2"] = ConvUnit(64, 64, 1, norm=norm)
    layers["conv3"] = ConvUnit(64, design.stem_chans, 3, padding=1, norm=norm)
    if design.lrn:
        layers["norm2"] = ResponseNorm(k=1.0)
    layers["maxpool2"] = _pool(3)
    return layers


def _pool(side: int) -> nn.Module:
    """Returns a max pool of stride 2 whose last window reaches over the border: 112 to 56, not to 55."""
    return nn.MaxPool2d(kernel_size=side, stride=2, ceil_mode=True)


def _draw(block: nn.Module, init: Initialization) -> None:
    """Draws the weights of ``block``.

    ``caffe``: uniform with variance 1 / fan in, convolutions' biases 0.2, as in BVLC's GoogLeNet.
    ``torchvision``: N(0, 0.01^2). ``he``: N(0, 2 / fan out), linear layers like torch.
    """
    for module in block.modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        is_linear = isinstance(module, nn.Linear)
        if init == "caffe":
            bound = (3 / module.weight[0].numel()) ** 0.5
            nn.init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                nn.init.constant_(module.bias, 0.0 if is_linear else 0.2)
        elif init == "torchvision":
            nn.init.trunc_normal_(module.weight, std=0.01)
        elif not is_linear:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
