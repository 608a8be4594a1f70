"""Inception with batch normalisation: two 3x3 convolutions in place of 5x5, and modules that halve the maps.

Ioffe, Szegedy 2015, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal
Covariate Shift", appendix; Caffe's public network (Xiong's, which Cadene's and pytorchcv's are) and
TF-Slim's ``inception_v2``.
"""

from typing import Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import WeightsError
from zoo.modules import check_choice, fit_channels
from zoo_inception.blocks import ConvUnit, concatenate
from zoo_inception.network import Network

Lineage = Literal["caffe", "tf"]


class Widths(NamedTuple):
    """Maps of one module: of each branch, and of the 1x1 reductions before it.

    A module without a ``one`` has stride 2 and passes the pool's maps on.
    """

    one: int
    three_reduce: int
    three: int
    double_reduce: int
    double: int
    pool: int


CAFFE: dict[str, Widths] = {
    "3a": Widths(64, 64, 64, 64, 96, 32),
    "3b": Widths(64, 64, 96, 64, 96, 64),
    "3c": Widths(0, 128, 160, 64, 96, 0),
    "4a": Widths(224, 64, 96, 96, 128, 128),
    "4b": Widths(192, 96, 128, 96, 128, 128),
    "4c": Widths(160, 128, 160, 128, 160, 128),
    "4d": Widths(96, 128, 192, 160, 192, 128),
    "4e": Widths(0, 128, 192, 192, 256, 0),
    "5a": Widths(352, 192, 320, 160, 224, 128),
    "5b": Widths(352, 192, 320, 192, 224, 128),
}
TF: dict[str, Widths] = {
    **CAFFE,
    "4c": CAFFE["4c"]._replace(pool=96),
    "4d": CAFFE["4d"]._replace(pool=96),
}


class Style(NamedTuple):
    """The differences of a lineage apart from its widths.

    ``bias``: convolutions have one, though batch normalisation has another. ``eps`` is the
    normalisation's. ``same`` pads as TensorFlow does, more behind than before where the sum is odd.
    ``counts_padding``: an average at the border is over 9 values, zeros among them, not over 4 or 6.
    """

    widths: dict[str, Widths]
    bias: bool
    eps: float
    same: bool
    counts_padding: bool


STYLES: dict[str, Style] = {
    "caffe": Style(CAFFE, bias=True, eps=1e-5, same=False, counts_padding=True),
    "tf": Style(TF, bias=False, eps=1e-3, same=True, counts_padding=False),
}


class SamePad(nn.Module):
    """Zeros around B C H W, so that an unpadded ``kernel`` of stride 2 gives ceil(H / 2): the larger half behind."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        # kernel - 1 zeros around an odd size, kernel - 2 around an even one
        height, width = self.kernel - 2 + x.shape[2] % 2, self.kernel - 2 + x.shape[3] % 2
        return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))


class SeparableStem(nn.Module):
    """TF-Slim's first layer: eight 7x7 filters of stride 2 on each channel, a 1x1 convolution of their maps, ReLU.

    It has a bias and no batch normalisation, since TF-Slim sets that up for other convolutions alone.
    """

    def __init__(self, in_chans: int, out_chans: int) -> None:
        super().__init__()
        self.pad = SamePad(7)
        self.depthwise = nn.Conv2d(in_chans, 8 * in_chans, kernel_size=7, stride=2, groups=in_chans, bias=False)
        self.pointwise = nn.Conv2d(8 * in_chans, out_chans, kernel_size=1)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.pointwise(self.depthwise(self.pad(x))))
        return out


class Module(nn.Module):
    """Branches of 1x1, 3x3, two 3x3 and a 3x3 pool on the same maps, concatenated in that order.

    A module without a branch of 1x1 has stride 2; its pool, of maxima, passes all maps on.
    """

    def __init__(self, in_chans: int, widths: Widths, style: Style, *, pool: Literal["avg", "max"]) -> None:
        super().__init__()
        single, three_reduce, three, double_reduce, double, projected = widths
        is_halving = not single
        if single:
            self.branch1 = _unit(in_chans, single, 1, style)
        self.branch2 = nn.Sequential(
            _unit(in_chans, three_reduce, 1, style),
            *_last(three_reduce, three, style, is_halving=is_halving),
        )
        self.branch3 = nn.Sequential(
            _unit(in_chans, double_reduce, 1, style),
            _unit(double_reduce, double, 3, style),
            *_last(double, double, style, is_halving=is_halving),
        )
        if is_halving:
            self.branch4 = nn.Sequential(_halving_pool())
        else:
            self.branch4 = nn.Sequential(_pool(pool, style), _unit(in_chans, projected, 1, style))
        self.out_chans = single + three + double + (in_chans if is_halving else projected)

    def forward(self, x: Tensor) -> Tensor:
        """Maps B C h w to B out_chans h w, or of half the size."""
        return concatenate([branch(x) for branch in self.children()])


class BNInception(Network):
    """The network of a ``lineage``, ``caffe`` or ``tf``. Raises :class:`SpecError`.

    ``bgr`` takes images as RGB and turns them round, for weights of Caffe, which learnt BGR.
    """

    def __init__(
        self,
        *,
        lineage: Lineage = "caffe",
        bgr: bool = False,
        drop_rate: float = 0.0,
        num_classes: int = 1000,
        in_chans: int = 3,
    ) -> None:
        check_choice("lineage", lineage, STYLES)
        style = STYLES[lineage]
        super().__init__(num_features=1024, drop_rate=drop_rate)
        self.bgr = bgr
        layers: dict[str, nn.Module] = {
            "conv1": SeparableStem(in_chans, 64) if style.same else _unit(in_chans, 64, 7, style, stride=2),
            "maxpool1": _halving_pool(),
            "conv2": _unit(64, 64, 1, style),
            "conv3": _unit(64, 192, 3, style),
            "maxpool2": _halving_pool(),
        }
        self.note_stage("conv1", 64, 2)
        self.note_stage("conv3", 192, 4)
        chans, reduction = 192, 8
        for name, widths in style.widths.items():
            module = Module(chans, widths, style, pool="max" if name == "5b" else "avg")
            layers[f"inception{name}"] = module
            chans = module.out_chans
            if not widths.one:
                reduction *= 2
            if name in ("3b", "4d", "5b"):
                self.note_stage(f"inception{name}", chans, reduction)
        self.layers = tuple(layers)
        """The names of the layers before the head, in order."""
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.reset_classifier(num_classes)
        self.initialize()

    def adapt_channels(self, tensors: dict[str, Tensor], before: int, channels: int) -> list[str]:
        """Adapts ``tensors`` of ``before`` channels to ``channels``, and returns the keys that changed.

        Raises :class:`WeightsError` for TF-Slim's first layer and one channel: eight filters cannot do what eight of
        each channel did.
        """
        keys = "conv1.depthwise.weight", "conv1.pointwise.weight"
        if not isinstance(self.get_submodule("conv1"), SeparableStem):
            return []
        if channels == 1:
            raise WeightsError(
                f"bn_inception_tf has eight filters for each of its {before} input channels, "
                "which cannot be made eight filters for one.",
                hint=f"Leave in_chans out: images are made to have {before} channels.",
            )
        for dim, key in enumerate(keys):
            tensors[key] = fit_channels(tensors[key], before, channels, dim=dim)
        return list(keys)

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images B C H W to B 1024 H/32 W/32."""
        if self.bgr:
            x = x.flip(1)
        for name in self.layers:
            x = self.get_submodule(name)(x)
        return x


def _unit(in_chans: int, out_chans: int, kernel: int, style: Style, *, stride: int = 1) -> ConvUnit:
    return ConvUnit(in_chans, out_chans, kernel, stride=stride, padding=kernel // 2, bias=style.bias, eps=style.eps)


def _last(in_chans: int, out_chans: int, style: Style, *, is_halving: bool) -> list[nn.Module]:
    """Returns a branch's last 3x3 convolution, of stride 2 where the module halves its maps."""
    if is_halving and style.same:
        unit = ConvUnit(in_chans, out_chans, 3, stride=2, bias=style.bias, eps=style.eps)
        return [SamePad(3), unit]
    return [_unit(in_chans, out_chans, 3, style, stride=2 if is_halving else 1)]


def _pool(kind: Literal["avg", "max"], style: Style) -> nn.Module:
    if kind == "max":
        return nn.MaxPool2d(kernel_size=3, stride=1, padding=1)
    return nn.AvgPool2d(kernel_size=3, stride=1, padding=1, count_include_pad=style.counts_padding)


def _halving_pool() -> nn.Module:
    """Returns a max pool of stride 2 whose last window reaches over the border, as where TensorFlow pads an even
    size.
    """
    return nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)
