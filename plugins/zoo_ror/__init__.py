"""RoR: residual networks of residual networks, stochastic depth, and wide residual networks.

Zhang, Sun, Han, Yuan, Guo, Liu 2016, "Residual Networks of Residual Networks: Multilevel Residual
Networks"; Huang, Sun, Liu, Sedra, Weinberger 2016, "Deep Networks with Stochastic Depth";
Zagoruyko, Komodakis 2016, "Wide Residual Networks".

Faithful: the figures of RoR-3 and Pre-RoR-3, for any number of ``levels``: strides in all projections
(the root's is 4), 1x1 projections as shortcuts of every group and of the whole, no ReLU in the last
block of a group before its shortcut is added, one ReLU behind the last group's and the root's
additions. Stochastic depth (``_sd``) as its authors have it: survival falls linearly from nearly 1 to 0.5,
one draw a block and mini-batch, a dropped block is not computed, in evaluation each branch is multiplied
by its survival; ``drawn_per="sample"`` is timm's. ``resnet*_sd`` average where their shortcuts shrink.

Deviates: RoR-3 has batch normalisation behind the 1x1 projections of its levels, which the figure draws
bare (``level_norm=False``); networks without stochastic depth on CIFAR-100 would take ``shortcut="B"``.
The paper does not say how it counts blocks: n = (L - 2) / 6 as for ResNets, (L - 4) / 6 as for WRNs;
other ports have (L - 8) / 6 and max pools between groups (``outside=8, downsample="max_pool"``). Its
levels beyond the third are our reading: each halves the groups of the one before. The authors of
stochastic depth give convolutions a bias, which the batch normalisation behind cancels: not here.
"""

from collections.abc import Mapping
from typing import Any

from zoo.spec import CIFAR10, CIFAR10_IMAGE_STD, Argument, KeyMap, Model, Paper, Plugin

ZHANG_2016 = Paper(
    title="Residual Networks of Residual Networks: Multilevel Residual Networks",
    authors="Ke Zhang, Miao Sun, Tony X. Han, Xingfang Yuan, Liru Guo, Tao Liu",
    year=2016,
    url="https://arxiv.org/abs/1608.02908",
)
HUANG_2016 = Paper(
    title="Deep Networks with Stochastic Depth",
    authors="Gao Huang, Yu Sun, Zhuang Liu, Daniel Sedra, Kilian Weinberger",
    year=2016,
    url="https://arxiv.org/abs/1603.09382",
)
ZAGORUYKO_2016 = Paper(
    title="Wide Residual Networks",
    authors="Sergey Zagoruyko, Nikos Komodakis",
    year=2016,
    url="https://arxiv.org/abs/1605.07146",
)
SD = {"survival": 0.5}
PREACT = {"preact": True, "shortcut": "B", "level_norm": False}


def _row(name: str, args: Mapping[str, Any], *, params: int, macs: int, paper: Paper, note: str) -> Model:
    return Model(
        name,
        build="zoo_ror.model:RoR",
        args=args,
        paper=paper,
        preprocess=CIFAR10,
        params=params,
        macs=macs,
        num_classes=10,
        head=("fc",),
        stem=("conv1",),
        stages=("act1", "layer1", "layer2", "layer3", "act"),
        note=f"for 32x32 images, {note}",
    )


def _ror(name: str, args: Mapping[str, Any], *, params: int, macs: int) -> tuple[Model, Model]:
    """Returns a network of three levels, without and with stochastic depth."""
    plain = _row(name, args, params=params, macs=macs, paper=ZHANG_2016, note="3 levels of shortcuts")
    note = "3 levels of shortcuts, stochastic depth"
    return plain, _row(f"{name}_sd", {**args, **SD}, params=params, macs=macs, paper=ZHANG_2016, note=note)


def _wide(depth: int, width: int) -> dict[str, Any]:
    return {"depth": depth, "width": width, "outside": 4, **PREACT}


def _wrn(depth: int, width: int, *, params: int, macs: int) -> Model:
    args = {**_wide(depth, width), "levels": 1}
    name = f"wrn{depth}_{width}"
    return _row(name, args, params=params, macs=macs, paper=ZAGORUYKO_2016, note=f"{width} times ResNet's channels")


def _resnet_sd(depth: int, *, params: int, macs: int) -> Model:
    args = {"depth": depth, "levels": 1, "shortcut": "A_avg", **SD}
    return _row(f"resnet{depth}_sd", args, params=params, macs=macs, paper=HUANG_2016, note="stochastic depth")


_UNITS = tuple((rf"\.unit{unit + 1}\.", f".blocks.{unit}.") for unit in range(26))
"""Its units count from 1, ours from 0; the deepest has 26 in a group."""

plugin = Plugin(
    name="ror",
    api=2,
    models=(
        *_ror("ror3_56", {"depth": 56}, params=857_210, macs=126_075_520),
        *_ror("ror3_110", {"depth": 110}, params=1_732_154, macs=253_477_504),
        *_ror("ror3_164", {"depth": 164}, params=2_607_098, macs=380_879_488),
        *_ror("pre_ror3_164", {"depth": 164, **PREACT}, params=2_609_306, macs=381_141_632),
        *_ror("ror3_wrn40_2", _wide(40, 2), params=2_256_346, macs=329_303_296),
        *_ror("ror3_wrn40_4", _wide(40, 4), params=8_995_290, macs=1_304_087_040),
        *_ror("ror3_wrn58_4", _wide(58, 4), params=13_645_530, macs=1_983_564_288),
        _wrn(28, 10, params=36_479_194, macs=5_243_328_768),
        _wrn(40, 2, params=2_243_546, macs=327_599_360),
        _wrn(40, 4, params=8_949_210, macs=1_298_582_016),
        _wrn(58, 4, params=13_599_450, macs=1_978_059_264),
        _resnet_sd(56, params=853_018, macs=125_485_696),
        _resnet_sd(110, params=1_727_962, macs=252_887_680),
    ),
    weights=("weights_manifest:ror.toml",),
    recipes="zoo_ror:recipes.toml",
    key_maps=(
        KeyMap(
            "pytorchcv",
            rename=(
                (r"^features\.init_block\.conv\.", "conv1."),
                (r"^features\.init_block\.bn\.", "bn1."),
                (r"^features\.body\.shortcut\.conv\.", "root.0."),
                (r"^features\.body\.shortcut\.bn\.", "root.1."),
                (r"^features\.body\.stages\.stage", "layer"),
                (r"\.units\.", "."),
                *_UNITS,
                (r"\.(?:shortcut|identity_conv)\.conv\.", ".shortcut.0."),
                (r"\.(?:shortcut|identity_conv)\.bn\.", ".shortcut.1."),
                (r"\.body\.conv(\d)\.(conv|bn)\.", r".branch.\2\1."),
                (r"^output\.", "fc."),
            ),
            args={"outside": 8, "downsample": "max_pool", "shortcut": "B"},
            preprocess=CIFAR10_IMAGE_STD,
            classes="cifar10",
            shows_args=True,
            origin="osmr/pytorchcv, ror3_*_cifar10: (L - 8) / 6 blocks a group, max pools between groups",
        ),
        KeyMap(
            "pytorchcv_wrn",
            rename=(
                (r"^features\.init_block\.", "conv1."),
                (r"^features\.post_activ\.", ""),
                (r"^features\.stage", "layer"),
                *_UNITS,
                (r"\.identity_conv\.", ".shortcut."),
                (r"\.blocks\.0\.body\.conv1\.bn\.", ".blocks.0.before.bn1."),
                (r"\.body\.conv(\d)\.(conv|bn)\.", r".branch.\2\1."),
                (r"^output\.", "fc."),
            ),
            preprocess=CIFAR10_IMAGE_STD,
            classes="cifar10",
            shows_args=True,
            origin="osmr/pytorchcv, wrn*_cifar10",
        ),
    ),
    file_args={
        "levels": Argument(least=1, most=4),
        "preact": Argument((True, False)),
        "outside": Argument((2, 4, 8)),
        "shortcut": Argument(("A", "A_avg", "B", "C")),
        "middle_shortcut": Argument(("A", "A_avg", "B", "C")),
        "root_shortcut": Argument(("A", "A_avg", "B", "C")),
        "level_norm": Argument((True, False)),
        "downsample": Argument(("stride", "max_pool")),
        "survival": Argument(least=0.0, most=1.0),
        "drawn_per": Argument(("batch", "sample")),
        "drop_rate": Argument(least=0.0, most=1.0),
    },
)
