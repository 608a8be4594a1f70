"""FractalNet: depth without residuals, by one expansion rule.

Larsson, Maire, Shakhnarovich 2016, "FractalNet: Ultra-Deep Neural Networks without Residuals"
(ICLR 2017), and the authors' code (gustavla/fractalnet).

Faithful: the rule for any number of columns and blocks; joins that are means; the order convolution,
dropout, batch normalisation, ReLU; pooling of each column before the last join of a block, as the
paper's implementation details and its code have it (its figure joins first: ``pool_order="after_join"``,
the same for one column, another function of several); dropout per block; local drop-path of 0.15 that
never drops all inputs of a join; global drop-path, one column through the whole network; one column as
a network of its own (``column=3``). Initialisation is Caffe's "Xavier".

Deviates: half of each batch takes one column an image and the other half is dropped image by image,
where the paper draws one subnetwork a mini-batch, half of them global (``drawn_per="batch"``, for one
process: it leaves parameters without a gradient).
Normalisation has learned scales and shifts and convolutions no bias; Caffe's files have it the other
way (``affine=False``). The paper states 38.6 M parameters for the 20 layers, its code makes 33.8 M for
100 classes; a 1x1 convolution in front of each block that changes the channels (``project=True``) would
explain the difference and is our inference. ``fractalnet34`` has ResNet's first and last layer; its
widths and its three pools are our reading. ``fractalnet20_narrow`` is ours: the paper's widths of its
study of depth, 16, 32, 64, ..., with narrower last blocks.
"""

from collections.abc import Mapping
from typing import Any

from zoo.spec import CIFAR10, Argument, Model, Paper, Plugin

LARSSON_2016 = Paper(
    title="FractalNet: Ultra-Deep Neural Networks without Residuals",
    authors="Gustav Larsson, Michael Maire, Gregory Shakhnarovich",
    year=2016,
    url="https://arxiv.org/abs/1605.07648",
)


def _row(name: str, args: Mapping[str, Any], **fields: Any) -> Model:
    return Model(
        name,
        build="zoo_fractalnet.model:FractalNet",
        args=args,
        paper=LARSSON_2016,
        head=("fc",),
        stages=tuple(f"block{block + 1}" for block in range(len(args["widths"]))),
        evaluate="zoo_fractalnet.columns:evaluate",
        **fields,
    )


def _cifar(name: str, widths: list[int], drop_rates: list[float], *, params: int, macs: int, note: str) -> Model:
    return _row(
        name,
        {"columns": 3, "widths": widths, "drop_rates": drop_rates},
        preprocess=CIFAR10,
        params=params,
        macs=macs,
        num_classes=10,
        stem=tuple(f"block1.column{column}.0.conv" for column in (1, 2, 3)),
        note=f"for 32x32 images, 3 columns, {note}",
    )


plugin = Plugin(
    name="fractalnet",
    api=2,
    models=(
        _cifar(
            "fractalnet20",
            [64, 128, 256, 512, 512],
            [0.0, 0.1, 0.2, 0.3, 0.4],
            params=33_724_618,
            macs=845_222_912,
            note="5 blocks, dropout and drop-path",
        ),
        _cifar(
            "fractalnet20_narrow",
            [16, 32, 64, 80, 80],
            [0.0] * 5,
            params=1_040_410,
            macs=44_228_384,
            note="5 blocks of 16 to 80 channels, drop-path",
        ),
        _row(
            "fractalnet34",
            {"columns": 4, "widths": [128, 256, 512, 1024], "stem": "imagenet"},
            params=164_031_016,
            macs=24_164_982_784,
            stem=("stem.0",),
            note="4 columns, 4 blocks, drop-path",
        ),
    ),
    weights=("weights_manifest:fractalnet.toml",),
    recipes="zoo_fractalnet:recipes.toml",
    file_args={
        "columns": Argument(least=1, most=5),
        "widths": Argument(least=1, most=1024, longest=6),
        "drop_rates": Argument((None,), least=0.0, most=1.0, longest=6),
        "drop_path": Argument(least=0.0, most=1.0),
        "global_share": Argument(least=0.0, most=1.0),
        "drawn_per": Argument(("sample", "batch")),
        "pool_order": Argument(("before_join", "after_join")),
        "project": Argument((True, False)),
        "affine": Argument((True, False)),
        "column": Argument((None,), least=0, most=4),
    },
)
