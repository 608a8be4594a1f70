"""EfficientNet-Lite: inverted residuals, scaled in depth and width at once, without what small devices lack.

Tan, Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks"; the Lite networks are those
of tensorflow/tpu (Liu 2020). State-dict keys are timm's: ``conv_stem``, ``blocks.STAGE.BLOCK``, ``conv_head``,
``classifier``.
"""

import math
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import SpecError
from zoo.modules import DropPath, PooledClassifier


class Stage(NamedTuple):
    """Blocks of one width: ``repeats`` of them, the first of ``stride``; each expands its maps ``expansion`` times."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    chans: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
"""Table 1 of the paper, from its second row on."""

STEM, HEAD = 32, 1280
"""Maps of the first and of the last convolution, which Lite does not scale."""

_EPS = 1e-3


def scaled_chans(chans: int, width: float) -> int:
    """Returns ``chans`` times ``width``, rounded to a multiple of 8 that is not below nine tenths of it."""
    exact = chans * width
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * exact else rounded


def scaled_repeats(depth: float) -> list[int]:
    """Returns the blocks of each stage; Lite leaves the first stage and the last at one."""
    inner = [math.ceil(stage.repeats * depth) for stage in STAGES[1:-1]]
    return [STAGES[0].repeats, *inner, STAGES[-1].repeats]


class SamePad(nn.Module):
    """Pads B C H W with zeros so that a convolution gives ceil(H / stride), as TensorFlow does: the larger half behind.

    Beside PyTorch's padding on both sides, the convolution of stride 2 then starts one pixel later in images of even
    size.
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        height = self.kernel - 1 - (x.shape[2] - 1) % self.stride
        width = self.kernel - 1 - (x.shape[3] - 1) % self.stride
        return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))


class DepthwiseSeparable(nn.Module):
    """A convolution of each map, BN, ReLU6, a 1x1 convolution across maps, BN: the block of the first stage."""

    def __init__(self, in_chans: int, out_chans: int, *, kernel: int, stride: int, drop_path_rate: float) -> None:
        super().__init__()
        self.pad, self.conv_dw = _depthwise(in_chans, kernel, stride)
        self.bn1 = nn.BatchNorm2d(in_chans, eps=_EPS)
        self.act = nn.ReLU6()
        self.conv_pw = nn.Conv2d(in_chans, out_chans, kernel_size=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_chans, eps=_EPS)
        self.has_shortcut = stride == 1 and in_chans == out_chans
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Maps B in_chans H W to B out_chans ceil(H / stride) ceil(W / stride)."""
        out: Tensor = self.act(self.bn1(self.conv_dw(self.pad(x))))
        out = self.bn2(self.conv_pw(out))
        return self.drop_path(out) + x if self.has_shortcut else out


class InvertedResidual(nn.Module):
    """A 1x1 convolution to more maps, one of each of these, a 1x1 convolution to few, and a shortcut between the few.

    Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks". Nothing follows the last BN.
    """

    def __init__(
        self, in_chans: int, out_chans: int, *, kernel: int, stride: int, expansion: int, drop_path_rate: float
    ) -> None:
        super().__init__()
        wide = in_chans * expansion
        self.conv_pw = nn.Conv2d(in_chans, wide, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide, eps=_EPS)
        self.act1 = nn.ReLU6()
        self.pad, self.conv_dw = _depthwise(wide, kernel, stride)
        self.bn2 = nn.BatchNorm2d(wide, eps=_EPS)
        self.act2 = nn.ReLU6()
        self.conv_pwl = nn.Conv2d(wide, out_chans, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_chans, eps=_EPS)
        self.has_shortcut = stride == 1 and in_chans == out_chans
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Maps B in_chans H W to B out_chans ceil(H / stride) ceil(W / stride)."""
        out: Tensor = self.act1(self.bn1(self.conv_pw(x)))
        out = self.act2(self.bn2(self.conv_dw(self.pad(out))))
        out = self.bn3(self.conv_pwl(out))
        return self.drop_path(out) + x if self.has_shortcut else out


class EfficientNetLite(PooledClassifier):
    """A 3x3 convolution of stride 2, seven stages, a 1x1 convolution, global average, linear layer.

    ``width`` scales the maps of the stages and ``depth`` their blocks. ``drop_path_rate`` is that of the last block;
    it grows from 0 along the blocks. Raises :class:`SpecError`.
    """

    classifier_name = "classifier"

    def __init__(
        self,
        *,
        width: float = 1.0,
        depth: float = 1.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        num_classes: int = 1000,
        in_chans: int = 3,
    ) -> None:
        if not (width > 0 and depth > 0):
            raise SpecError(f"width = {width!r} and depth = {depth!r} must be positive.")
        super().__init__()
        self.pad = SamePad(3, 2)
        self.conv_stem = nn.Conv2d(in_chans, STEM, kernel_size=3, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM, eps=_EPS)
        self.act1 = nn.ReLU6()
        repeats = scaled_repeats(depth)
        total, done, chans, reduction = sum(repeats), 0, STEM, 2
        self.blocks = nn.Sequential()
        for number, (stage, count) in enumerate(zip(STAGES, repeats, strict=True)):
            out_chans, blocks = scaled_chans(stage.chans, width), nn.Sequential()
            for index in range(count):
                stride, rate = 1 if index else stage.stride, drop_path_rate * done / total
                if stage.expansion == 1:
                    block: nn.Module = DepthwiseSeparable(
                        chans, out_chans, kernel=stage.kernel, stride=stride, drop_path_rate=rate
                    )
                else:
                    block = InvertedResidual(
                        chans,
                        out_chans,
                        kernel=stage.kernel,
                        stride=stride,
                        expansion=stage.expansion,
                        drop_path_rate=rate,
                    )
                blocks.append(block)
                chans, done = out_chans, done + 1
            self.blocks.append(blocks)
            reduction *= stage.stride
            if number + 1 == len(STAGES) or STAGES[number + 1].stride == 2:
                self.note_stage(f"blocks.{number}", chans, reduction)
        self.conv_head = nn.Conv2d(chans, HEAD, kernel_size=1, bias=False)
        self.bn2 = nn.BatchNorm2d(HEAD, eps=_EPS)
        self.act2 = nn.ReLU6()
        self.num_features = HEAD
        self.reset_classifier(num_classes)
        self.set_drop_rate(drop_rate)
        self.initialize()

    def initialize(self) -> None:
        """Draws weights as the authors do: a convolution's by the outputs that each of its groups feeds, a linear
        layer's uniformly."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.out_channels // module.groups * math.prod(module.kernel_size)
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
            elif isinstance(module, nn.Linear):
                reach = 1 / math.sqrt(module.out_features)
                nn.init.uniform_(module.weight, -reach, reach)
                nn.init.zeros_(module.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images B C H W to B 1280 H/32 W/32."""
        x = self.blocks(self.act1(self.bn1(self.conv_stem(self.pad(x)))))
        features: Tensor = self.act2(self.bn2(self.conv_head(x)))
        return features


def _depthwise(chans: int, kernel: int, stride: int) -> tuple[nn.Module, nn.Conv2d]:
    """Returns what pads, and a convolution of each map alone."""
    padding = kernel // 2 if stride == 1 else 0  # then the same on all sides
    convolution = nn.Conv2d(chans, chans, kernel_size=kernel, stride=stride, padding=padding, groups=chans, bias=False)
    return nn.Identity() if stride == 1 else SamePad(kernel, stride), convolution
