"""EfficientNet-Lite: one factor scales depth, width and resolution together.

Tan, Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks"; Lite is the authors' later
variant for small devices (tensorflow/tpu, models/official/efficientnet/lite).

Faithful: the seven stages of table 1, inverted residuals, TensorFlow's padding, and Lite's changes: no
squeeze-and-excitation, ReLU6 in place of swish, and a first and a last convolution, and stages, that are not scaled.

Deviates: batch normalisation averages with timm's momentum of 0.1, where the authors' is 0.01. The authors train 350
epochs with RMSProp and AutoAugment, for which no recipe is here.
"""

from typing import Literal

from zoo.spec import Argument, KeyMap, Model, Paper, Plugin, Preprocess

TAN_2019 = Paper(
    title="EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
    authors="Mingxing Tan, Quoc V. Le",
    year=2019,
    url="https://arxiv.org/abs/1905.11946",
)


def _row(
    name: str,
    width: float,
    depth: float,
    size: int,
    crop: float,
    kind: Literal["bilinear", "bicubic"] = "bicubic",
    *,
    params: int,
    macs: int,
) -> Model:
    """Returns the network whose images have ``size`` pixels on a side, a share ``crop`` of the shorter one's."""
    return Model(
        name,
        build="zoo_efficientnet.model:EfficientNetLite",
        args={"width": width, "depth": depth},
        paper=TAN_2019,
        preprocess=Preprocess(
            input_size=(3, size, size), crop_pct=crop, interpolation=kind, mean=(0.5,) * 3, std=(0.5,) * 3
        ),
        params=params,
        macs=macs,
        head=("classifier",),
        stem=("conv_stem",),
        stages=tuple(f"blocks.{stage}" for stage in (0, 1, 2, 4, 6)),
        note=f"width {width:g}, depth {depth:g}",
        aliases=(f"tf_{name}",),
    )


def _in_order(name: str, repeats: tuple[int, ...]) -> KeyMap:
    """Maps the names of efficientnet_lite_pytorch, which numbers blocks without stages and their layers by the paper's
    steps: expand, depthwise, project."""
    rename = [(r"^_conv_stem\.", "conv_stem."), (r"^_conv_head\.", "conv_head."), (r"^_fc\.", "classifier.")]
    rename += [(r"^_bn0\.", "bn1."), (r"^_bn1\.", "bn2.")]
    number = 0
    for stage, count in enumerate(repeats):
        for index in range(count):
            rename.append((rf"^_blocks\.{number}\._", f"blocks.{stage}.{index}._"))
            number += 1
    rename += [
        (r"^(blocks\.0\.0)\._depthwise_conv\.", r"\1.conv_dw."),
        (r"^(blocks\.0\.0)\._project_conv\.", r"\1.conv_pw."),
        (r"^(blocks\.0\.0)\._bn([12])\.", r"\1.bn\2."),
        (r"\._expand_conv\.", ".conv_pw."),
        (r"\._depthwise_conv\.", ".conv_dw."),
        (r"\._project_conv\.", ".conv_pwl."),
        (r"\._bn2\.", ".bn3."),
        (r"\._bn1\.", ".bn2."),
        (r"\._bn0\.", ".bn1."),
    ]
    return KeyMap(
        f"ml_illustrated_{name}",
        rename=tuple(rename),
        classes="imagenet-1k",
        origin=f"ml-illustrated/EfficientNet-Lite-PyTorch, {name}: the authors' TensorFlow checkpoint",
    )


plugin = Plugin(
    name="efficientnet",
    api=2,
    models=(
        _row("efficientnet_lite0", 1.0, 1.0, 224, 0.875, params=4_652_008, macs=385_187_552),
        _row("efficientnet_lite1", 1.0, 1.1, 240, 0.882, params=5_416_680, macs=600_185_232),
        _row("efficientnet_lite2", 1.1, 1.2, 260, 0.89, params=6_092_072, macs=859_736_272),
        _row("efficientnet_lite3", 1.2, 1.4, 300, 0.904, "bilinear", params=8_197_096, macs=1_607_554_544),
        _row("efficientnet_lite4", 1.4, 1.8, 380, 0.92, "bilinear", params=13_006_568, macs=3_943_564_112),
    ),
    weights=("weights_manifest:efficientnet.toml",),
    key_maps=(
        _in_order("lite0", (1, 2, 2, 3, 3, 4, 1)),
        _in_order("lite1", (1, 3, 3, 4, 4, 5, 1)),
        _in_order("lite2", (1, 3, 3, 4, 4, 5, 1)),
    ),
    file_args={
        "width": Argument(least=0.1, most=4.0),
        "depth": Argument(least=0.1, most=4.0),
        "drop_rate": Argument(least=0.0, most=1.0),
        "drop_path_rate": Argument(least=0.0, most=1.0),
    },
)
