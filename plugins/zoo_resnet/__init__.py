"""Residual networks, their plain counterparts, and pre-activation.

He, Zhang, Ren, Sun 2015, "Deep Residual Learning for Image Recognition", and 2016, "Identity
Mappings in Deep Residual Networks". ``resnet8`` is the MLPerf Tiny benchmark's (Banbury et al. 2021).

Faithful: the depths of table 1 and of section 4.2, the shortcut options A, B and C
(``shortcut="A"``, ..., ``"none"`` for a plain network), He's initialisation; of the second paper
its authors' Torch file.

Deviates: bottlenecks stride in the 3x3 convolution (v1.5), as all current public weights do;
``stride_on="1x1"`` gives the paper's placement (v1). ImageNet networks have option B by default,
CIFAR10 networks option A. Zero channels are appended at the end, as in fb.resnet.torch; weights of
akamaster's lineage need ``zero_channels="split"``. The second paper's 110 layers are in no file of
its authors: here they are basic units with the shortcuts of their bottleneck file.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from zoo.spec import CIFAR10, CIFAR10_IMAGE_STD, IMAGENET, STD_255, Argument, KeyMap, Model, Paper, Plugin, Preprocess

HE_2015 = Paper(
    title="Deep Residual Learning for Image Recognition",
    authors="Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun",
    year=2015,
    url="https://arxiv.org/abs/1512.03385",
)
HE_2016 = Paper(
    title="Identity Mappings in Deep Residual Networks",
    authors="Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun",
    year=2016,
    url="https://arxiv.org/abs/1603.05027",
)
BANBURY_2021 = Paper(
    title="MLPerf Tiny Benchmark",
    authors="Colby Banbury, Vijay Janapa Reddi, Peter Torelli, Jeremy Holleman, Nat Jeffries, Csaba Kiraly, "
    "Pietro Montino, David Kanter, Sebastian Ahmed, Danilo Pau, et al.",
    year=2021,
    url="https://arxiv.org/abs/2106.07597",
)
_PLAIN = {"shortcut": "none"}
_LAYERS = ("layer1", "layer2", "layer3")


def _row(name: str, build: str, args: Mapping[str, Any], *, params: int, macs: int, **more: Any) -> Model:
    return Model(
        name,
        build=f"zoo_resnet.{build}",
        args=args,
        params=params,
        macs=macs,
        head=("fc",),
        stem=("conv1",),
        **{"paper": HE_2015, "stages": ("act1", *_LAYERS), **more},
    )


def _imagenet(name: str, depth: int, *, params: int, macs: int, **args: Any) -> Model:
    note, stages = "no shortcuts" if args else "", ("act1", *_LAYERS, "layer4")
    return _row(name, "model:resnet", {"depth": depth, **args}, params=params, macs=macs, stages=stages, note=note)


def _small(name: str, build: str, args: Mapping[str, Any], *, params: int, macs: int, note: str, **more: Any) -> Model:
    more = {"preprocess": CIFAR10, "num_classes": 10, **more}
    return _row(name, build, args, params=params, macs=macs, note=f"for 32x32 images{note}", **more)


def _cifar(name: str, depth: int, *, params: int, macs: int, **args: Any) -> Model:
    note = ", no shortcuts" if args else ", shortcut option A"
    return _small(name, "model:cifar_resnet", {"depth": depth, **args}, params=params, macs=macs, note=note)


def _preact(name: str, depth: int, *, bottleneck: bool, params: int, macs: int) -> Model:
    args, more = {"depth": depth, "bottleneck": bottleneck}, {"paper": HE_2016, "stages": ("conv1", *_LAYERS, "act")}
    return _small(name, "preact:PreActResNet", args, params=params, macs=macs, note="", **more)


RESNET8 = _small(
    "resnet8",
    "tiny:TinyResNet",
    {},
    params=78_186,
    macs=12_501_632,
    paper=BANBURY_2021,
    preprocess=Preprocess(input_size=(3, 32, 32), crop_pct=1.0, mean=(0.0, 0.0, 0.0), std=STD_255),
    note=" with values in [0, 255], MLPerf Tiny's",
)
_KERAS_NAMES = (
    (r"\.(kernel|gamma)$", ".weight"),
    (r"\.beta$", ".bias"),
    (r"\.moving_mean$", ".running_mean"),
    (r"\.moving_variance$", ".running_var"),
)

KERAS = KeyMap(
    "keras",
    rename=(
        (r"^conv1_(conv|bn)\.", r"\1_1."),
        *((rf"^conv{stage}_block", f"layer{stage - 1}.") for stage in range(2, 6)),
        *((rf"^(layer\d)\.{block}_", rf"\1.{block - 1}.") for block in range(1, 37)),
        (r"\.0_conv\.", ".downsample.0."),
        (r"\.0_bn\.", ".downsample.1."),
        (r"\.([123])_(conv|bn)\.", r".\2\1."),
        (r"^(conv|bn)_1\.", r"\g<1>1."),
        (r"^predictions\.", "fc."),
        *_KERAS_NAMES,
    ),
    transpose=(
        (r"(conv\d|downsample\.0)\.weight$", (), (3, 2, 0, 1)),
        (r"^fc\.weight$", (), (1, 0)),
    ),
    fold_bias=(
        (r"conv(\d)\.bias$", r"bn\1.running_mean"),
        (r"downsample\.0\.bias$", "downsample.1.running_mean"),
    ),
    norm_eps=(1.001e-5, 1e-5),
    input_order="bgr",
    input_scale=255.0,
    args={"stride_on": "1x1"},
    shows_args=True,
    preprocess={"mean": tuple(value / 255 for value in (123.68, 116.779, 103.939)), "std": (1.0, 1.0, 1.0)},
    classes="imagenet-1k",
    origin="keras.applications, ResNet50, 101 or 152 (v1): biases of convolutions and Keras's epsilon folded into the "
    "normalisation behind, the first layer turned to R, G, B in [0, 1] less the mean",
)
_CONVOLUTIONS_8 = (
    *("conv1", "layer1.0.conv1", "layer1.0.conv2"),
    *(f"layer{n}.0.{part}" for n in (2, 3) for part in ("conv1", "conv2", "downsample")),
)
_NORMS_8 = ("bn1", *(f"layer{n}.0.bn{m}" for n in (1, 2, 3) for m in (1, 2)))


def _numbered(kind: str, names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Keras calls the layers of one kind ``kind``, ``kind_1``, ``kind_2``, ..."""
    return tuple((rf"^{kind}{f'_{n}' if n else ''}\.", f"{name}.") for n, name in enumerate(names))


MLPERF_TINY = KeyMap(
    "mlperf_tiny",
    rename=(
        *_numbered("conv2d", _CONVOLUTIONS_8),
        *_numbered("batch_normalization", _NORMS_8),
        (r"^dense\.", "fc."),
        *_KERAS_NAMES,
    ),
    transpose=((r"(conv\d|downsample)\.weight$", (), (3, 2, 0, 1)), (r"^fc\.weight$", (), (1, 0))),
    classes="cifar10",
    origin="mlcommons/tiny, resnet_v1_eembc with 16 filters, in Keras",
)

plugin = Plugin(
    name="resnet",
    api=2,
    models=(
        _imagenet("resnet18", 18, params=11_689_512, macs=1_814_073_344),
        _imagenet("resnet34", 34, params=21_797_672, macs=3_663_761_408),
        _imagenet("resnet50", 50, params=25_557_032, macs=4_089_184_256),
        _imagenet("resnet101", 101, params=44_549_160, macs=7_801_405_440),
        _imagenet("resnet152", 152, params=60_192_808, macs=11_513_626_624),
        _imagenet("plain18", 18, params=11_515_688, macs=1_794_805_760, **_PLAIN),
        _imagenet("plain34", 34, params=21_623_848, macs=3_644_493_824, **_PLAIN),
        RESNET8,
        _cifar("resnet20", 20, params=269_722, macs=40_551_040),
        _cifar("resnet32", 32, params=464_154, macs=68_862_592),
        _cifar("resnet44", 44, params=658_586, macs=97_174_144),
        _cifar("resnet56", 56, params=853_018, macs=125_485_696),
        _cifar("resnet110", 110, params=1_727_962, macs=252_887_680),
        _cifar("resnet1202", 1202, params=19_421_274, macs=2_829_238_912),
        _cifar("plain20", 20, params=269_722, macs=40_551_040, **_PLAIN),
        _cifar("plain32", 32, params=464_154, macs=68_862_592, **_PLAIN),
        _cifar("plain44", 44, params=658_586, macs=97_174_144, **_PLAIN),
        _cifar("plain56", 56, params=853_018, macs=125_485_696, **_PLAIN),
        _preact("preact_resnet110", 110, bottleneck=False, params=1_730_522, macs=253_149_824),
        _preact("preact_resnet164", 164, bottleneck=True, params=1_703_258, macs=244_500_992),
        _preact("preact_resnet1001", 1001, bottleneck=True, params=10_327_706, macs=1_487_849_984),
    ),
    weights=("weights_manifest:resnet.toml",),
    recipes="zoo_resnet:recipes.toml",
    key_maps=(
        KeyMap(
            "akamaster",
            rename=((r"^linear\.", "fc."),),
            args={"shortcut": "A", "zero_channels": "split"},
            preprocess={**CIFAR10_IMAGE_STD, "mean": IMAGENET.mean, "std": IMAGENET.std},
            classes="cifar10",
            origin="akamaster/pytorch_resnet_cifar10, option A, zero channels half in front and half behind",
        ),
        KeyMap(
            "chenyaofo",
            args={"shortcut": "B"},
            preprocess=CIFAR10_IMAGE_STD,
            classes="cifar10",
            origin="chenyaofo/pytorch-cifar-models, option B",
        ),
        KeyMap(
            "kuangliu",
            rename=((r"\.shortcut\.", ".downsample."), (r"^linear\.", "fc.")),
            args={"shortcut": "B"},
            preprocess=CIFAR10_IMAGE_STD,
            classes="cifar10",
            origin="kuangliu/pytorch-cifar and its descendants, option B",
        ),
        KERAS,
        MLPERF_TINY,
    ),
    file_args={
        "shortcut": Argument(("A", "B", "C", "none")),
        "zero_channels": Argument(("end", "split")),
        "stride_on": Argument(("3x3", "1x1")),
    },
)
