"""Five convolutions with max pooling between, two hidden layers with dropout, a linear layer.

Krizhevsky, Sutskever, Hinton 2012, "ImageNet Classification with Deep Convolutional Neural Networks";
Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks", with the authors'
``layers-223-1gpu.cfg``; Zeiler, Fergus 2013, "Visualizing and Understanding Convolutional Networks".
State-dict keys are torchvision's: ``features.N`` and ``classifier.N``.
"""

from typing import Literal, NamedTuple, get_args

from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.modules import ImageClassifier, ResponseNorm, check_choice

Initialization = Literal["paper", "torch"]
Pooling = Literal["overlapping", "separate", "strided"]
"""Max pools over 3x3 of stride 2, or over 2x2 of stride 2, or none, where the convolutions have twice the stride."""


class Layer(NamedTuple):
    """A convolution with ReLU, and what follows it.

    ``is_split``: its maps and filters lie on two GPUs, and none sees the other's. ``is_normed``: by
    the response of neighbouring maps. ``std`` and ``bias`` are of its initial weights.
    """

    width: int
    kernel: int
    stride: int = 1
    padding: int = 0
    is_split: bool = False
    is_normed: bool = False
    is_pooled: bool = False
    std: float = 0.01
    bias: float = 0.0


class Design(NamedTuple):
    """One paper's network.

    ``pool_first`` pools before normalising. ``ceil_mode`` lets a pool's last window reach over the
    border. The head takes maps of ``grid`` x ``grid``. ``drop_first`` drops what a hidden layer is
    given instead of what it gives. ``hidden_bias`` and ``head_bias`` are initial values.
    """

    layers: tuple[Layer, ...]
    pool_first: bool = False
    ceil_mode: bool = False
    grid: int = 6
    hidden: int = 4096
    drop_first: bool = False
    hidden_bias: float = 1.0
    head_bias: float = 0.0


def _zfnet(*last_widths: int) -> Design:
    third, fourth, fifth = last_widths
    return Design(
        layers=(
            Layer(96, 7, stride=2, padding=1, is_normed=True, is_pooled=True),
            Layer(256, 5, stride=2, is_normed=True, is_pooled=True),
            Layer(third, 3, padding=1),
            Layer(fourth, 3, padding=1),
            Layer(fifth, 3, padding=1, is_pooled=True),
        ),
        pool_first=True,
        ceil_mode=True,
        hidden_bias=0.0,
    )


DESIGNS: dict[str, Design] = {
    "2012": Design(
        layers=(
            Layer(96, 11, stride=4, is_normed=True, is_pooled=True),
            Layer(256, 5, padding=2, is_split=True, is_normed=True, is_pooled=True, bias=1.0),
            Layer(384, 3, padding=1),
            Layer(384, 3, padding=1, is_split=True, bias=1.0),
            Layer(256, 3, padding=1, is_split=True, is_pooled=True, bias=1.0),
        ),
    ),
    "owt": Design(
        layers=(
            Layer(64, 11, stride=4, padding=2, is_pooled=True),
            Layer(192, 5, padding=2, is_pooled=True, bias=1.0),
            Layer(384, 3, padding=1, std=0.03),
            Layer(256, 3, padding=1, std=0.03, bias=1.0),
            Layer(256, 3, padding=1, is_pooled=True, std=0.03, bias=1.0),
        ),
        drop_first=True,
        head_bias=-7.0,
    ),
    "zfnet": _zfnet(384, 384, 256),
    "zfnet_b": _zfnet(512, 1024, 512),
    "small": Design(
        layers=(
            Layer(48, 5, padding=2, is_pooled=True),
            Layer(128, 5, padding=2, is_pooled=True, bias=1.0),
            Layer(192, 3, padding=1),
            Layer(192, 3, padding=1, bias=1.0),
            Layer(128, 3, padding=1, is_pooled=True, bias=1.0),
        ),
        grid=3,
        hidden=512,
    ),
}


class AlexNet(ImageClassifier):
    """The network of a ``design``: ``2012``, ``owt``, ``zfnet``, ``zfnet_b`` or ``small``.

    ``groups`` are the parts of those layers that the 2012 network split over two GPUs; 1 joins them.
    ``pooling`` is the paper's or one that it can be compared with. ``lrn`` puts response normalisation behind the
    first two ReLUs, or leaves it out; ``pool_first`` changes the design's order of the two. ``init`` is the
    paper's, or torch's own. If the last maps are not of the design's size, since the image is not, they
    are averaged or stretched to it, as torchvision does. ``filter_radius`` is for this family's train
    hook: the largest root mean square of a convolution's filter, 0 for none. Raises :class:`SpecError`.
    """

    classifier_name = "classifier.6"
    head_names = ("classifier",)

    def __init__(
        self,
        *,
        design: str,
        groups: int = 2,
        pooling: Pooling = "overlapping",
        lrn: bool | None = None,
        pool_first: bool | None = None,
        drop_rate: float = 0.5,
        init: Initialization = "paper",
        filter_radius: float = 0.0,
        num_classes: int = 1000,
        in_chans: int = 3,
    ) -> None:
        check_choice("design", design, DESIGNS)
        check_choice("groups", groups, (1, 2))
        check_choice("pooling", pooling, get_args(Pooling))
        check_choice("init", init, get_args(Initialization))
        if not filter_radius >= 0:
            raise SpecError(f"filter_radius = {filter_radius!r} must not be negative: 0.1 in ZFNet, 0 for none.")
        plan = _changed(DESIGNS[design], pooling, lrn, pool_first)
        super().__init__()
        self.filter_radius = filter_radius
        modules: list[nn.Module] = []
        activations: list[str] = []
        chans, reduction = in_chans, 1
        for layer in plan.layers:
            modules.append(_convolution(layer, chans, groups=groups))
            activations.append(f"features.{len(modules)}")
            modules.append(nn.ReLU())
            chans, reduction = layer.width, reduction * layer.stride
            if layer.is_pooled:
                self.note_stage(f"features.{len(modules) - 1}", chans, reduction)
                reduction *= 2
            modules += _after(layer, plan, 3 if pooling == "overlapping" else 2)
        self.note_stage(f"features.{len(modules) - 1}", chans, reduction)
        self.features = nn.Sequential(*modules)
        self.avgpool = nn.AdaptiveAvgPool2d(plan.grid)
        self.classifier = nn.Sequential(
            *_hidden_layer(chans * plan.grid**2, plan, drop_rate),
            *_hidden_layer(plan.hidden, plan, drop_rate),
            nn.Identity(),
        )
        self.num_features = chans
        self.head_hidden_size = plan.hidden
        self.activations = tuple(activations)
        self.reset_classifier(num_classes)
        if init == "paper":
            self._initialize(plan)

    @property
    def default_layers(self) -> tuple[str, ...]:
        return self.activations

    def _initialize(self, plan: Design) -> None:
        """Weights from a normal distribution; biases 0 or 1, which feeds ReLUs positive inputs at first."""
        layers = [module for module in self.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        values = [(layer.std, layer.bias) for layer in plan.layers]
        values += [(0.01, plan.hidden_bias), (0.01, plan.hidden_bias), (0.01, plan.head_bias)]
        for module, (std, bias) in zip(layers, values, strict=False):  # 0 classes: no head
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.constant_(module.bias, bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images B C H W to B num_features h w, after the last pool."""
        features: Tensor = self.features(x)
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features B num_features h w to logits B num_classes, or to the hidden layers' output where ``pre_logits``."""
        x = self.avgpool(x).flatten(1)  # B C h w -> B C grid grid -> B C*grid*grid
        for layer in list(self.classifier)[: -1 if pre_logits else None]:
            x = layer(x)
        return x


def _changed(design: Design, pooling: Pooling, lrn: bool | None, pool_first: bool | None) -> Design:
    """Returns ``design`` without its pools where convolutions stride, with or without response normalisation."""
    layers = design.layers
    if pooling == "strided":
        layers = tuple(
            layer._replace(stride=2 * layer.stride, is_pooled=False) if layer.is_pooled else layer for layer in layers
        )
    if lrn is not None:
        layers = tuple(layer._replace(is_normed=lrn and number < 2) for number, layer in enumerate(layers))
    return design._replace(layers=layers, pool_first=design.pool_first if pool_first is None else pool_first)


def _convolution(layer: Layer, in_chans: int, *, groups: int) -> nn.Conv2d:
    return nn.Conv2d(
        in_chans,
        layer.width,
        kernel_size=layer.kernel,
        stride=layer.stride,
        padding=layer.padding,
        groups=groups if layer.is_split else 1,
    )


def _after(layer: Layer, design: Design, side: int) -> list[nn.Module]:
    """Builds response normalization (section 3.3) and max pooling over ``side`` x ``side`` (3.4), in the design's
    order."""
    norm = [ResponseNorm(k=2.0)] if layer.is_normed else []
    pool = [nn.MaxPool2d(kernel_size=side, stride=2, ceil_mode=design.ceil_mode)] if layer.is_pooled else []
    return [*pool, *norm] if design.pool_first else [*norm, *pool]


def _hidden_layer(in_features: int, design: Design, drop_rate: float) -> list[nn.Module]:
    layer = [nn.Linear(in_features, design.hidden), nn.ReLU()]
    return [nn.Dropout(drop_rate), *layer] if design.drop_first else [*layer, nn.Dropout(drop_rate)]
