"""Inception: branches of several sizes on the same maps, concatenated.

Szegedy et al. 2014, "Going Deeper with Convolutions" (GoogLeNet); Ioffe, Szegedy 2015, "Batch
Normalization"; Szegedy et al. 2015, "Rethinking the Inception Architecture for Computer Vision" (v3);
Szegedy et al. 2016, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning".

Faithful: ``googlenet`` as in table 1: 5x5 filters, response normalisation, no batch normalisation, pools
whose last window reaches over the border, dropout of 0.4, and in training two auxiliary classifiers whose
losses count 0.3 each and which the trained network is without. ``bn_inception`` as Caffe's public network
has it, ``bn_inception_tf`` as TF-Slim does: they differ in 4c, 4d and the first layer, in padding and in
batch normalisation's epsilon, so weights of one are none of the other's. The networks of 2015 and 2016:
see their modules.

Deviates: the paper of 2014 states neither initial weights nor the constants of response normalisation:
they are BVLC's. It subtracts a mean, here each channel's, from RGB pixels in [0, 255]; BVLC's network
takes BGR. ``googlenet_naive`` is our reading of figure 2a: table 1's widths of 1x1, 3x3 and 5x5, no
reductions, and a pool that passes on all the maps it is given, so that every module adds its own to
them. ``googlenet_tv`` is torchvision's network, which has batch normalisation, 3x3 filters in place of
5x5, a last pool of 2x2, and takes values in [-1, 1]: what its ``transform_input`` makes of ImageNet's
normalisation. ``googlenet_small``, with batch normalisation and without auxiliary classifiers, is not in
the papers, nor is ``googlenet_small_naive``, whose modules without reductions are as narrow as the same
cost makes them.
"""

from collections.abc import Mapping
from typing import Any

from zoo.spec import CIFAR10, STD_255, Argument, Model, Paper, Plugin, Preprocess
from zoo_inception.key_maps import KEY_MAPS

SZEGEDY_2014 = Paper(
    title="Going Deeper with Convolutions",
    authors="Christian Szegedy, Wei Liu, Yangqing Jia, Pierre Sermanet, Scott Reed, Dragomir Anguelov, "
    "Dumitru Erhan, Vincent Vanhoucke, Andrew Rabinovich",
    year=2014,
    url="https://arxiv.org/abs/1409.4842",
)
IOFFE_2015 = Paper(
    title="Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift",
    authors="Sergey Ioffe, Christian Szegedy",
    year=2015,
    url="https://arxiv.org/abs/1502.03167",
)
SZEGEDY_2015 = Paper(
    title="Rethinking the Inception Architecture for Computer Vision",
    authors="Christian Szegedy, Vincent Vanhoucke, Sergey Ioffe, Jonathon Shlens, Zbigniew Wojna",
    year=2015,
    url="https://arxiv.org/abs/1512.00567",
)
SZEGEDY_2016 = Paper(
    title="Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
    authors="Christian Szegedy, Sergey Ioffe, Vincent Vanhoucke, Alex Alemi",
    year=2016,
    url="https://arxiv.org/abs/1602.07261",
)
TRAIN = "zoo_inception.training:train"
IMAGENET_255 = Preprocess(std=STD_255)
IMAGENET_1 = Preprocess(mean=(0.5,) * 3, std=(0.5,) * 3)
"""Values in [-1, 1]."""


def _googlenet(name: str, args: Mapping[str, Any], **fields: Any) -> Model:
    """Returns a row for ImageNet, with auxiliary heads in training."""
    stages = ("conv1", "conv3", "inception3b", "inception4e", "inception5b")
    fields = {"stages": stages, "train": TRAIN, **fields}
    build = "zoo_inception.googlenet:GoogLeNet"
    return Model(name, build=build, args=args, paper=SZEGEDY_2014, head=("fc",), stem=("conv1.conv",), **fields)


def _small_googlenet(name: str, design: str, **fields: Any) -> Model:
    """Returns a row for small images, with those heads alone that it was built with."""
    fields = {"stages": ("conv1", "inception3b", "inception4e", "inception5b"), "train": f"{TRAIN}_as_built", **fields}
    args = {"design": design, "drop_rate": 0.0, "init": "he"}
    return _googlenet(name, args, preprocess=CIFAR10, num_classes=10, **fields)


def _bn_inception(name: str, args: Mapping[str, Any], **fields: Any) -> Model:
    return Model(
        name,
        build="zoo_inception.bn_inception:BNInception",
        args=args,
        paper=IOFFE_2015,
        head=("fc",),
        stem=("conv1",) if args["lineage"] == "tf" else ("conv1.conv",),
        stages=("conv1", "conv3", "inception3b", "inception4d", "inception5b"),
        **fields,
    )


def _of_299(name: str, *, crop_pct: float = 0.875, note: str, **fields: Any) -> Model:
    """Takes values in [-1, 1]."""
    size, half = (3, 299, 299), (0.5,) * 3
    fields = {"paper": SZEGEDY_2016, "train": TRAIN, "note": f"for 299x299 images{note}", **fields}
    preprocess = Preprocess(size, crop_pct=crop_pct, interpolation="bicubic", mean=half, std=half)
    return Model(name, preprocess=preprocess, **fields)


GOOGLENETS = (
    _googlenet(
        "googlenet",
        {"design": "2014"},
        params=6_998_552,
        macs=1_582_671_872,
        preprocess=IMAGENET_255,
        note="as published, without batch normalisation; two auxiliary classifiers in training",
    ),
    _googlenet(
        "googlenet_naive",
        {"design": "2014_naive"},
        params=97_526_008,
        macs=12_568_061_056,
        preprocess=IMAGENET_255,
        note="modules without 1x1 reductions: 13.9 times the parameters of googlenet, 7.9 times its multiply-adds",
    ),
    _googlenet(
        "googlenet_tv",
        {"design": "torchvision", "drop_rate": 0.2, "init": "torchvision"},
        params=6_624_904,
        macs=1_498_376_192,
        preprocess=IMAGENET_1,
        note="torchvision's googlenet: batch normalisation, 3x3 in place of 5x5",
    ),
    _small_googlenet(
        "googlenet_small",
        "small",
        params=466_938,
        macs=72_822_528,
        note="nine narrow modules with batch normalisation, for 32x32 images",
    ),
    _small_googlenet(
        "googlenet_small_naive",
        "small_naive",
        params=451_210,
        macs=75_924_968,
        note="modules without 1x1 reductions at the cost of googlenet_small, for 32x32 images",
    ),
)
BN_INCEPTIONS = (
    _bn_inception(
        "bn_inception",
        {"lineage": "caffe", "bgr": True},
        params=11_295_240,
        macs=2_032_600_064,
        preprocess=Preprocess(mean=(128 / 255, 117 / 255, 104 / 255), std=STD_255),
        note="also Inception v2; as in Caffe's public weights, for which it turns RGB to BGR",
    ),
    _bn_inception(
        "bn_inception_tf",
        {"lineage": "tf", "drop_rate": 0.2},
        params=11_188_224,
        macs=1_934_857_216,
        preprocess=IMAGENET_1,
        note="also Inception v2; as in TF-Slim",
    ),
)
FACTORISED = (
    _of_299(
        "inception_v3",
        build="zoo_inception.inception_v3:InceptionV3",
        paper=SZEGEDY_2015,
        params=23_834_568,
        macs=5_713_216_096,
        head=("fc",),
        stem=("Conv2d_1a_3x3.conv",),
        stages=("Conv2d_2b_3x3", "Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e", "Mixed_7c"),
        note="; an auxiliary classifier in training",
        file_args={"count_include_pad": Argument((True, False))},
    ),
    _of_299(
        "inception_v4",
        build="zoo_inception.inception_v4:InceptionV4",
        params=42_679_816,
        macs=12_253_974_624,
        head=("last_linear",),
        stem=("features.0.conv",),
        stages=("features.2", "features.3", "features.9", "features.17", "features.21"),
        note="",
    ),
    _of_299(
        "inception_resnet_v1",
        build="zoo_inception.inception_resnet:InceptionResNetV1",
        params=23_995_624,
        macs=6_308_235_360,
        head=("logits",),
        stem=("conv2d_1a.conv",),
        stages=("conv2d_2b", "conv2d_4a", "repeat_1", "repeat_2", "block8"),
        note="; 512 features before the classifier",
    ),
    _of_299(
        "inception_resnet_v2",
        build="zoo_inception.inception_resnet:InceptionResNetV2",
        crop_pct=0.8975,
        params=55_843_464,
        macs=13_155_794_016,
        head=("classif",),
        stem=("conv2d_1a.conv",),
        stages=("conv2d_2b", "conv2d_4a", "repeat", "repeat_1", "conv2d_7b"),
        note="; stem and numbers of modules as released, not as in the paper",
    ),
)
plugin = Plugin(
    name="inception",
    api=1,
    models=(*GOOGLENETS, *BN_INCEPTIONS, *FACTORISED),
    weights=("weights_manifest:inception.toml",),
    recipes="zoo_inception:recipes.toml",
    key_maps=KEY_MAPS,
    file_args={
        "aux": Argument((True, False)),
        "bgr": Argument((True, False)),
        "lineage": Argument(("caffe", "tf")),
        "drop_rate": Argument(least=0.0, most=1.0),
        "init": Argument(("caffe", "torchvision", "he")),
    },
)
