"""AlexNet, and the network that looking into it led to.

Krizhevsky, Sutskever, Hinton 2012, "ImageNet Classification with Deep Convolutional Neural Networks";
Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks"; Zeiler, Fergus
2013, "Visualizing and Understanding Convolutional Networks".

Faithful: ``alexnet`` with its layers on two GPUs as two groups, response normalisation behind the
first two ReLUs, overlapping pools, dropout behind the hidden layers, weights from N(0, 0.01^2) and
biases of 1 where the paper has them; ``zfnet`` and ``zfnet_b`` with 7x7 filters of stride 2 in place
of 11x11 of stride 4, normalisation behind the pools, filters renormalised to a root mean square of
0.1 in training (``filter_radius``). All three take pixels in [0, 255] less their mean, as their
initial weights and constants need.

Deviates: the mean is each channel's, not each pixel's. Images are 227 pixels wide: the paper says 224,
from which no unpadded layer makes its 55x55 maps. Response normalisation divides its sum by the number
of maps, as the authors' program does. ZFNet's paper says "contrast normalised" without constants: here
they are AlexNet's. ``alexnet_owt`` is torchvision's form of the one-tower network: no
response normalisation, dropout in front of the hidden layers, torch's initialisation. ``alexnet_small``
for 32x32 images has the widths of one of AlexNet's towers, 5x5 filters of stride 1 first, hidden layers
of 512, no response normalisation, torch's initialisation: it is not in the papers.
"""

from collections.abc import Mapping
from typing import Any

from zoo.spec import CIFAR10, IMAGENET, STD_255, Argument, Model, Paper, Plugin, Preprocess

KRIZHEVSKY_2012 = Paper(
    title="ImageNet Classification with Deep Convolutional Neural Networks",
    authors="Alex Krizhevsky, Ilya Sutskever, Geoffrey E. Hinton",
    year=2012,
    url="https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks",
)
KRIZHEVSKY_2014 = Paper(
    title="One weird trick for parallelizing convolutional neural networks",
    authors="Alex Krizhevsky",
    year=2014,
    url="https://arxiv.org/abs/1404.5997",
)
ZEILER_2013 = Paper(
    title="Visualizing and Understanding Convolutional Networks",
    authors="Matthew D. Zeiler, Rob Fergus",
    year=2013,
    url="https://arxiv.org/abs/1311.2901",
)
IMAGENET_227 = Preprocess(input_size=(3, 227, 227), crop_pct=227 / 256, std=STD_255)
IMAGENET_224 = Preprocess(std=STD_255)


def _row(
    name: str,
    args: Mapping[str, Any],
    convolutions: tuple[int, ...],
    *,
    hidden: tuple[int, int] = (0, 3),
    **fields: Any,
) -> Model:
    """Returns the row of one network; in ``features`` and ``classifier``, a ReLU follows each index of ``convolutions``
    and ``hidden``.
    """
    activations = [f"features.{index + 1}" for index in convolutions] + [f"classifier.{index + 1}" for index in hidden]
    return Model(
        name,
        build="zoo_alexnet.model:AlexNet",
        args=args,
        head=("classifier.6",),
        stem=("features.0",),
        stages=tuple(activations),
        train="zoo_alexnet.training:train",
        **fields,
    )


plugin = Plugin(
    name="alexnet",
    api=1,
    models=(
        _row(
            "alexnet",
            {"design": "2012"},
            (0, 4, 8, 10, 12),
            paper=KRIZHEVSKY_2012,
            preprocess=IMAGENET_227,
            params=60_965_224,
            macs=724_406_816,
            note="two groups, response normalisation",
        ),
        _row(
            "alexnet_owt",
            {"design": "owt", "init": "torch"},
            (0, 3, 6, 8, 10),
            hidden=(1, 4),
            paper=KRIZHEVSKY_2014,
            preprocess=IMAGENET,
            params=61_100_840,
            macs=714_188_480,
            note="one tower, torchvision's alexnet",
        ),
        _row(
            "alexnet_small",
            {"design": "small", "init": "torch"},
            (0, 3, 6, 8, 10),
            paper=KRIZHEVSKY_2012,
            preprocess=CIFAR10,
            params=1_790_154,
            macs=77_036_544,
            num_classes=10,
            note="the widths of one of two towers, for 32x32 images",
        ),
        _row(
            "zfnet",
            {"design": "zfnet", "filter_radius": 0.1},
            (0, 4, 8, 10, 12),
            paper=ZEILER_2013,
            preprocess=IMAGENET_224,
            params=62_357_608,
            macs=1_168_032_896,
            note="7x7 filters of stride 2 first",
        ),
        _row(
            "zfnet_b",
            {"design": "zfnet_b", "filter_radius": 0.1},
            (0, 4, 8, 10, 12),
            paper=ZEILER_2013,
            preprocess=IMAGENET_224,
            params=107_627_624,
            macs=2_476_704_896,
            note="with 512, 1024 and 512 maps in the last three convolutions",
        ),
    ),
    weights=("weights_manifest:alexnet.toml",),
    recipes="zoo_alexnet:recipes.toml",
    file_args={
        "groups": Argument(least=1, most=8),
        "pooling": Argument(("overlapping", "separate", "strided")),
        "lrn": Argument((True, False, None)),
        "pool_first": Argument((True, False, None)),
        "drop_rate": Argument(least=0.0, most=1.0),
        "init": Argument(("paper", "torch")),
        "filter_radius": Argument(least=0.0, most=10.0),
    },
)
