"""Residual and plain networks for ImageNet and CIFAR-10.

He, Zhang, Ren, Sun 2015, "Deep Residual Learning for Image Recognition": table 1 for ImageNet,
section 4.2 for CIFAR-10. State-dict keys are timm's, which are torchvision's.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, TypedDict, Unpack, get_args

from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.modules import DropPath, PooledClassifier, check_choice, count_units, he_initialize, make_shortcut

Option = Literal["A", "B", "C", "none"]
StrideOn = Literal["3x3", "1x1"]
ZeroChannels = Literal["end", "split"]


class Place(NamedTuple):
    """The arguments of a block by its place in the network.

    ``dilation`` is that of its 3x3 convolutions, ``first_dilation`` of the one that may have the stride.
    """

    stride: int
    first_dilation: int
    dilation: int
    downsample: nn.Module | None
    drop_path: nn.Module | None


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (figure 5, left)."""

    expansion = 1

    def __init__(self, in_chans: int, width: int, *, place: Place, stride_on: StrideOn) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_chans, width, stride=place.stride, dilation=place.first_dilation)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU()
        self.conv2 = _conv3x3(width, width, dilation=place.dilation)
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU()
        self.downsample = place.downsample
        self.drop_path = place.drop_path

    def forward(self, x: Tensor) -> Tensor:
        residual = self.act1(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        if self.drop_path is not None:
            residual = self.drop_path(residual)
        if self.downsample is not None:
            residual = residual + self.downsample(x)
        out: Tensor = self.act2(residual)
        return out


class Bottleneck(nn.Module):
    """1x1 to ``width`` channels, 3x3, 1x1 to four times as many (figure 5, right).

    ``stride_on`` names the convolution that takes the stride: the first ``1x1`` in the paper (v1),
    the ``3x3`` in fb.resnet.torch, torchvision and timm (v1.5).
    """

    expansion = 4

    def __init__(self, in_chans: int, width: int, *, place: Place, stride_on: StrideOn) -> None:
        super().__init__()
        first, second = (place.stride, 1) if stride_on == "1x1" else (1, place.stride)
        self.conv1 = nn.Conv2d(in_chans, width, kernel_size=1, stride=first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU()
        self.conv2 = _conv3x3(width, width, stride=second, dilation=place.first_dilation)
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU()
        self.conv3 = nn.Conv2d(width, width * self.expansion, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.act3 = nn.ReLU()
        self.downsample = place.downsample
        self.drop_path = place.drop_path

    def forward(self, x: Tensor) -> Tensor:
        residual = self.act1(self.bn1(self.conv1(x)))
        residual = self.act2(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        if self.drop_path is not None:
            residual = self.drop_path(residual)
        if self.downsample is not None:
            residual = residual + self.downsample(x)
        out: Tensor = self.act3(residual)
        return out


class Options(TypedDict, total=False):
    """The arguments that both build functions pass on to :class:`ResNet`."""

    shortcut: Option
    zero_channels: ZeroChannels
    drop_path_rate: float
    output_stride: int | None
    num_classes: int
    in_chans: int


class ResNet(PooledClassifier):
    """Stem, stages ``layer1``, ``layer2``, ... of ``depths`` blocks each, global average, linear layer.

    Each stage has twice the channels of the one before, from ``width`` on, and halves the size,
    except the first. ``stem`` is ``imagenet`` (7x7 of stride 2, max pool of stride 2) or ``cifar``
    (3x3). ``shortcut`` is A, B, C, or ``none`` for a plain network. ``drop_path_rate`` is that of the last block in
    stochastic depth, which rises linearly from 0. ``output_stride`` keeps the last maps larger: from there on,
    dilation takes the place of strides, as in timm.
    """

    def __init__(
        self,
        *,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        width: int,
        stem: Literal["imagenet", "cifar"],
        shortcut: Option = "B",
        stride_on: StrideOn = "3x3",
        zero_channels: ZeroChannels = "end",
        drop_path_rate: float = 0.0,
        output_stride: int | None = None,
        num_classes: int = 1000,
        in_chans: int = 3,
    ) -> None:
        check_choice("shortcut", shortcut, get_args(Option))
        check_choice("stride_on", stride_on, get_args(StrideOn))
        check_choice("zero_channels", zero_channels, get_args(ZeroChannels))
        super().__init__()

        if stem == "imagenet":
            self.conv1 = nn.Conv2d(in_chans, width, kernel_size=7, stride=2, padding=3, bias=False)
        else:
            self.conv1 = nn.Conv2d(in_chans, width, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU()
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1) if stem == "imagenet" else nn.Identity()
        reduction = 2 if stem == "imagenet" else 1
        self.note_stage("act1", width, reduction)
        if stem == "imagenet":
            reduction *= 2

        full = reduction * 2 ** (len(depths) - 1)
        largest = full if output_stride is None else output_stride
        check_choice("output_stride", largest, (full // 4, full // 2, full))
        rates = _rising(drop_path_rate, sum(depths))

        self.stages: list[str] = []
        chans, dilation = width, 1
        for index, depth in enumerate(depths):
            stage_width = width * 2**index
            out_chans = stage_width * block.expansion
            first_dilation, stride = dilation, 2 if index > 0 else 1
            if reduction * stride > largest:
                dilation, stride = dilation * stride, 1
            blocks: list[nn.Module] = []
            for position in range(depth):
                if position:
                    first_dilation, stride = dilation, 1
                shape = {"in_chans": chans, "out_chans": out_chans, "stride": stride}
                downsample = (
                    make_shortcut(shortcut, **shape, zero_channels=zero_channels) if shortcut != "none" else None
                )
                rate = next(rates)
                place = Place(stride, first_dilation, dilation, downsample, DropPath(rate) if rate else None)
                blocks.append(block(chans, stage_width, place=place, stride_on=stride_on))
                chans = out_chans
                reduction *= stride
            name = f"layer{index + 1}"
            self.add_module(name, nn.Sequential(*blocks))
            self.stages.append(name)
            self.note_stage(name, out_chans, reduction)
        self.num_features = chans
        self.reset_classifier(num_classes)
        he_initialize(self, "fan_out")  # as in fb.resnet.torch

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.act1(self.bn1(self.conv1(x))))
        for name in self.stages:
            x = self.get_submodule(name)(x)
        return x


def _conv3x3(in_chans: int, out_chans: int, *, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_chans, out_chans, kernel_size=3, stride=stride, padding=dilation, dilation=dilation, bias=False)


def _rising(last: float, blocks: int) -> Iterator[float]:
    """Yields a rate for each block: 0 for the first, ``last`` for the last, linear between. Raises
    :class:`SpecError`.
    """
    if not isinstance(last, int | float) or not 0 <= last <= 1:
        raise SpecError(f"drop_path_rate = {last!r} must be a number in [0, 1].")
    return (last * index / max(blocks - 1, 1) for index in range(blocks))


_IMAGENET: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


def resnet(*, depth: int, stride_on: StrideOn = "3x3", **options: Unpack[Options]) -> ResNet:
    """Returns a network for ImageNet of ``depth`` 18, 34, 50, 101 or 152 (table 1). Raises :class:`SpecError`."""
    check_choice("depth", depth, _IMAGENET)
    block, depths = _IMAGENET[depth]
    return ResNet(block=block, depths=depths, width=64, stem="imagenet", stride_on=stride_on, **options)


def cifar_resnet(*, depth: int, **options: Unpack[Options]) -> ResNet:
    """Returns a network for 32x32 images of ``depth`` 6n + 2 (section 4.2), with option A. Raises
    :class:`SpecError`.
    """
    units = count_units(depth, layers=6, others=2)
    given: Options = {"shortcut": "A", "num_classes": 10, **options}
    return ResNet(block=BasicBlock, depths=[units] * 3, width=16, stem="cifar", **given)
