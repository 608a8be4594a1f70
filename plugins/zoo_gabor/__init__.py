"""Gabor filters: the bank, the learned filters that resemble it, and networks that have it built in.

Luan, Zhang, Chen, Cao, Han, Liu 2017, "Gabor Convolutional Networks" (WACV 2018; IEEE TIP 2018), and the
authors' code (bczhangbczhang/Gabor-Convolutional-Networks, jxgu1016/Gabor_CNN_PyTorch).
``zoo_gabor.bank`` is the filter bank on its own; ``zoo look filters`` shows the Gabor filters nearest to
those of a network's first layer.

Faithful: real Gabor filters of U orientations brought to [0, 1] one by one, of a scale for each layer;
kernels of one pixel unmodulated; orientations the inner index of channels; the digit network of 10, 20,
40, 80 maps with the maximum over orientations, for 5x5 exactly; the residual network of the released
CIFAR10 script, whose layers all have scale 1 and whose classifier sees all orientations (``scales`` gives
the stem and each stage another).

Deviates: the released digit network is for 5x5. For 7x7 padding keeps its maps' sizes; for 3x3 there is a
pool after each of the first three layers and padding of 1, as in Oriented Response Networks, whose code it
is based on: both are our reading, and so is ``cnn4_3x3``, the paper's plain network, on 28 pixels in place of 32.
The last batch normalisation of the residual network has the usual momentum (the script: 0.9). The first
layer sums the filters of its U equal input channels before it convolves: the same function at a quarter of the
multiply-adds, which are stated so. ``gcn16_narrow`` is ours: half the maps of ``gcn40_1``, 16 layers.
"""

from collections.abc import Mapping
from typing import Any

from zoo.spec import CIFAR10, MNIST, Argument, Model, Paper, Plugin

LUAN_2017 = Paper(
    title="Gabor Convolutional Networks",
    authors="Shangzhen Luan, Baochang Zhang, Chen Chen, Xianbin Cao, Jungong Han, Jianzhuang Liu",
    year=2017,
    url="https://arxiv.org/abs/1705.01450",
)


def _row(name: str, build: str, args: Mapping[str, Any], **fields: Any) -> Model:
    return Model(name, build=f"zoo_gabor.{build}", args=args, paper=LUAN_2017, num_classes=10, **fields)


def _digits(name: str, build: str, kernel_size: int, *, params: int, macs: int, note: str) -> Model:
    return _row(
        name,
        f"model:{build}",
        {"kernel_size": kernel_size},
        preprocess=MNIST,
        params=params,
        macs=macs,
        head=("fc2",),
        stem=("block1.conv",),
        stages=("block1", "block2", "block3", "block4"),
        note=f"for 28x28 grey images, {note}",
    )


def _residual(name: str, depth: int, maps: list[int], *, params: int, macs: int) -> Model:
    return _row(
        name,
        "resnet:GaborWideResNet",
        {"depth": depth, "maps": maps},
        preprocess=CIFAR10,
        params=params,
        macs=macs,
        head=("fc",),
        stem=("conv1",),
        stages=("layer1", "layer2", "layer3"),
        note="for 32x32 images, 4 orientations",
    )


_GABOR = "4 orientations"
_PLAIN = "no Gabor filters: what gcn4_3x3 is measured against"

plugin = Plugin(
    name="gabor",
    api=2,
    models=(
        _digits("gcn4_3x3", "gcn4", 3, params=245_954, macs=12_124_800, note=_GABOR),
        _digits("gcn4_5x5", "gcn4", 5, params=515_394, macs=96_876_160, note=_GABOR),
        _digits("gcn4_7x7", "gcn4", 7, params=919_554, macs=189_788_800, note=_GABOR),
        _digits("cnn4_3x3", "cnn4", 3, params=3_087_754, macs=48_231_680, note=_PLAIN),
        _residual("gcn16_narrow", 16, [8, 8, 16, 32], params=177_066, macs=105_743_616),
        _residual("gcn40_1", 40, [16, 16, 32, 64], params=2_255_690, macs=1_327_172_096),
        _residual("gcn40_2", 40, [16, 32, 64, 128], params=8_974_154, macs=5_236_265_984),
    ),
    weights=("weights_manifest:gabor.toml",),
    recipes="zoo_gabor:recipes.toml",
    file_args={
        "orientations": Argument(least=1, most=16),
        "drop_rate": Argument(least=0.0, most=1.0),
    },
)
