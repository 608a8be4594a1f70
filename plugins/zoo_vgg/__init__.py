"""VGG: depth by 3x3 convolutions alone.

Simonyan, Zisserman 2014, "Very Deep Convolutional Networks for Large-Scale Image Recognition".

Faithful: the six configurations of table 1 (A, A-LRN, B, C with its three 1x1 convolutions, D, E),
and the fully connected layers as convolutions, so that a larger image is evaluated densely, as in
section 3.2. ``init="paper"`` draws weights as printed, with *variance* 0.01.

``configuration="B_5x5"`` is section 4.1's shallow net, and ``width`` scales all channels.

Deviates: the default initialisation is torchvision's, which trains without the paper's transfer of
layers from configuration A. The paper does not state A-LRN's constants: they are AlexNet's, once,
behind the first ReLU. Batch normalisation (``_bn``) is later than the paper; the convolutions keep
their bias, as in the public weights. ``vgg16_bn_small`` for 32x32 images goes from the 512 features
straight to the classes.

Below 224 pixels the features are stretched to 7x7, as torchvision and timm do; above, torchvision
shrinks them to 7x7, where this and timm evaluate densely.
"""

from collections.abc import Mapping
from typing import Any

from zoo.spec import CIFAR10, CIFAR10_IMAGE_STD, IMAGENET, Argument, KeyMap, Model, Paper, Plugin, Preprocess

SIMONYAN_2014 = Paper(
    title="Very Deep Convolutional Networks for Large-Scale Image Recognition",
    authors="Karen Simonyan, Andrew Zisserman",
    year=2014,
    url="https://arxiv.org/abs/1409.1556",
)
_BLOCKS = {"A": (1, 1, 2, 2, 2), "B": (2, 2, 2, 2, 2), "C": (2, 2, 3, 3, 3), "D": (2, 2, 3, 3, 3), "E": (2, 2, 4, 4, 4)}
"""The convolutions of each block, by configuration."""
_NOTES = {"norm": " with batch normalisation", "lrn": "-LRN"}


def _row(
    name: str,
    configuration: str,
    *,
    params: int,
    macs: int,
    preprocess: Preprocess = IMAGENET,
    num_classes: int = 1000,
    note: str = "",
    **args: Any,
) -> Model:
    """Returns one variant; ``args`` are build arguments. Its stages are the five max pools."""
    pools, place = [], int("lrn" in args)
    for count in _BLOCKS[configuration]:
        place += count * (3 if "norm" in args else 2)
        pools.append(f"features.{place}")
        place += 1
    kind = "".join(text for key, text in _NOTES.items() if key in args)
    return Model(
        name,
        build="zoo_vgg.model:VGG",
        args={"configuration": configuration, **args},
        paper=SIMONYAN_2014,
        preprocess=preprocess,
        params=params,
        macs=macs,
        num_classes=num_classes,
        head=("head.fc",),
        stem=("features.0",),
        stages=tuple(pools),
        note=f"configuration {configuration}{kind}{note}",
    )


CAFFE_MEAN = tuple(value / 255 for value in (123.68, 116.779, 103.939))
"""The means of R, G, B in [0, 1]: what Caffe's networks and their descendants take off; they divide by nothing."""


def _keras(depth: int, configuration: str) -> KeyMap:
    """Maps the names of keras.applications: kernels H W I O, flattened features H W C, the input B, G, R in [0, 255]
    less a mean."""
    rename, place = [], 0
    for block, count in enumerate(_BLOCKS[configuration], start=1):
        for number in range(1, count + 1):
            rename.append((rf"^block{block}_conv{number}\.", f"features.{place}."))
            place += 2
        place += 1
    rename += [(r"^fc([12])\.", r"pre_logits.fc\1."), (r"^predictions\.", "head.fc."), (r"\.kernel$", ".weight")]
    return KeyMap(
        f"keras_vgg{depth}",
        rename=tuple(rename),
        transpose=(
            (r"^features\.\d+\.weight$", (), (3, 2, 0, 1)),
            (r"^pre_logits\.fc1\.weight$", (7, 7, 512, 4096), (3, 2, 0, 1)),
            (r"^(pre_logits\.fc2|head\.fc)\.weight$", (), (1, 0)),
        ),
        input_order="bgr",
        input_scale=255.0,
        preprocess={"mean": CAFFE_MEAN, "std": (1.0, 1.0, 1.0)},
        classes="imagenet-1k",
        origin=f"keras.applications, VGG{depth}: the authors' Caffe weights, here for R, G, B in [0, 1] less the mean",
    )


_SMALL: Mapping[str, Any] = {
    "hidden_layers": False,
    "preprocess": CIFAR10,
    "num_classes": 10,
    "note": ", for 32x32 images",
}
_OF_C = ": the third convolution of blocks 3 to 5 is 1x1"

plugin = Plugin(
    name="vgg",
    api=2,
    models=(
        _row("vgg11", "A", params=132_863_336, macs=7_609_090_048),
        _row("vgg11_bn", "A", norm=True, params=132_868_840, macs=7_609_090_048),
        _row("vgg11_lrn", "A", lrn=True, params=132_863_336, macs=7_609_090_048),
        _row("vgg13", "B", params=133_047_848, macs=11_308_466_176),
        _row("vgg13_bn", "B", norm=True, params=133_053_736, macs=11_308_466_176),
        _row("vgg16", "D", params=138_357_544, macs=15_470_264_320),
        _row("vgg16_bn", "D", norm=True, params=138_365_992, macs=15_470_264_320),
        _row("vgg16_bn_small", "D", norm=True, **_SMALL, params=14_728_266, macs=313_201_664),
        _row("vgg16_c", "C", params=133_638_952, macs=11_770_888_192, note=_OF_C),
        _row("vgg19", "E", params=143_667_240, macs=19_632_062_464),
        _row("vgg19_bn", "E", norm=True, params=143_678_248, macs=19_632_062_464),
    ),
    weights=("weights_manifest:vgg.toml",),
    recipes="zoo_vgg:recipes.toml",
    key_maps=(
        KeyMap(
            "torchvision",
            rename=(
                (r"^classifier\.0\.", "pre_logits.fc1."),
                (r"^classifier\.3\.", "pre_logits.fc2."),
                (r"^classifier\.6\.", "head.fc."),
            ),
            classes="imagenet-1k",
            origin="pytorch/vision; the linear layers' weights are reshaped to convolutions",
        ),
        KeyMap(
            "kuangliu",
            rename=((r"^classifier\.", "head.fc."),),
            preprocess=CIFAR10_IMAGE_STD,
            classes="cifar10",
            origin="kuangliu/pytorch-cifar, VGG16: vgg16_bn_small",
        ),
        _keras(16, "D"),
        _keras(19, "E"),
    ),
    file_args={
        "configuration": Argument(("A", "B", "B_5x5", "C", "D", "E")),
        "width": Argument(least=0.0, most=2.0),
        "norm": Argument((True, False)),
        "lrn": Argument((True, False)),
        "hidden_layers": Argument((True, False)),
        "drop_rate": Argument(least=0.0, most=1.0),
        "init": Argument(("he", "paper")),
    },
)
