"""DenseNet: every layer of a block sees the maps of all layers before it.

Huang, Liu, van der Maaten, Weinberger 2016, "Densely Connected Convolutional Networks".

Faithful: the ImageNet networks of table 1, and 161 with growth rate 48 from the paper's first version
and the authors' release; the networks for 32x32 images with bottlenecks and compression (BC) and
without; their initial width, 16 maps or, in BC, twice the growth rate; He's initialisation by the fan
of the output, as in the authors' Torch file; ``drop_rate`` acts after each convolution but the first.

Deviates: nothing in the networks. ``initial_width="torch"`` begins with twice the growth rate always,
as the authors' Torch file does. torchvision and timm, equal with the same weights, initialise by the
fan of the input and drop after 3x3 convolutions alone. ``densenet_bc_40_12``, a narrow network for
slow machines, is not in the paper. ``memory_efficient=True`` computes a part of the maps twice instead
of keeping them; the numbers are the same, running statistics too.
"""

from collections.abc import Mapping
from typing import Any

from zoo.spec import CIFAR10, Argument, KeyMap, Model, Paper, Plugin

HUANG_2016 = Paper(
    title="Densely Connected Convolutional Networks",
    authors="Gao Huang, Zhuang Liu, Laurens van der Maaten, Kilian Q. Weinberger",
    year=2016,
    url="https://arxiv.org/abs/1608.06993",
)
BC: Mapping[str, Any] = {"bottleneck": True, "compression": 0.5}
PLAIN_NOTE = "neither bottlenecks nor compression"
BC_NOTE = "bottlenecks and compression by half"


def _row(name: str, build: str, *, stages: tuple[str, ...], **fields: Any) -> Model:
    return Model(
        name,
        build=f"zoo_densenet.model:{build}",
        paper=HUANG_2016,
        head=("classifier",),
        stem=("features.conv0",),
        stages=tuple(f"features.{stage}" for stage in (*stages, "relu5")),
        **fields,
    )


def _imagenet(depth: int, *, params: int, macs: int) -> Model:
    stages, note = ("relu0", "denseblock1", "denseblock2", "denseblock3"), f"growth rate {48 if depth == 161 else 32}"
    name, args = f"densenet{depth}", {"depth": depth}
    return _row(name, "densenet", args=args, params=params, macs=macs, stages=stages, note=note)


def _cifar(depth: int, growth_rate: int, *, params: int, macs: int, **args: Any) -> Model:
    return _row(
        f"densenet_{'bc_' if args else ''}{depth}_{growth_rate}",
        "cifar_densenet",
        args={"depth": depth, "growth_rate": growth_rate, **args},
        preprocess=CIFAR10,
        params=params,
        macs=macs,
        num_classes=10,
        stages=("conv0", "denseblock1", "denseblock2"),
        note=f"for 32x32 images, {BC_NOTE if args else PLAIN_NOTE}",
    )


plugin = Plugin(
    name="densenet",
    api=2,
    models=(
        _imagenet(121, params=7_978_856, macs=2_834_161_664),
        _imagenet(161, params=28_681_000, macs=7_727_907_072),
        _imagenet(169, params=14_149_480, macs=3_359_843_328),
        _imagenet(201, params=20_013_928, macs=4_291_365_888),
        _imagenet(264, params=33_337_704, macs=5_751_653_376),
        _cifar(40, 12, params=1_019_722, macs=264_812_928),
        _cifar(100, 12, params=6_979_642, macs=1_769_516_448),
        _cifar(40, 12, params=176_122, macs=72_365_352, **BC),
        _cifar(100, 12, params=769_162, macs=287_929_692, **BC),
        _cifar(190, 40, params=25_624_430, macs=9_301_945_740, **BC),
        _cifar(250, 24, params=15_324_406, macs=5_418_785_724, **BC),
    ),
    weights=("weights_manifest:densenet.toml",),
    recipes="zoo_densenet:recipes.toml",
    key_maps=(
        KeyMap(
            "torchvision",
            rename=((r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),),
            classes="imagenet-1k",
            origin="pytorch/vision; its files name a layer's parts norm.1, conv.1, norm.2 and conv.2",
        ),
    ),
    file_args={
        "stem": Argument(("imagenet", "small", "small_pool", "cifar")),
        "blocks": Argument((None,), least=1, most=64, longest=8),
        "growth_rate": Argument((None,), least=1, most=64),
        "bottleneck": Argument((True, False)),
        "compression": Argument(least=0.1, most=1.0),
        "initial_width": Argument(("paper", "torch")),
        "drop_rate": Argument(least=0.0, most=1.0),
        "memory_efficient": Argument((True, False)),
    },
)
