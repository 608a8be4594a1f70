"""Networks made to reach a stated accuracy on CIFAR-10 in the fewest operations.

Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", and its scripts
(KellerJordan/cifar10-airbench): ``legacy/airbench94.py``, ``airbench95.py``, ``airbench96.py``.

Faithful: the networks; the first layer, which whitens patches of the training images; partly
identity initialisation; alternating flip, biases of batch normalisation at 64 times the rate,
the triangular schedule, Lookahead with rising decay; six views in test.

Deviates: whole epochs (the scripts stop 94 after 9.9, here 10); weights are float32 and convolutions
compute in bfloat16, where the scripts keep float16; the loss is the mean over a batch, so a rate here
is the scripts' sum-reduced one times the batch. The newer scripts with Muon and with a proxy network are not here.
"""

from zoo.spec import CIFAR10, Argument, Model, Paper, Plugin

JORDAN_2024 = Paper(
    title="94% on CIFAR-10 in 3.29 Seconds on a Single GPU",
    authors="Keller Jordan",
    year=2024,
    url="https://arxiv.org/abs/2404.00498",
)


def _airbench(name: str, widths: tuple[int, int, int], depth: int, *, params: int, macs: int) -> Model:
    return Model(
        name,
        build="zoo_speedrun.model:Airbench",
        args={"widths": list(widths), "depth": depth, "norm_momentum": 0.1 if depth == 3 else 0.4},
        paper=JORDAN_2024,
        preprocess=CIFAR10,
        params=params,
        macs=macs,
        num_classes=10,
        head=("fc",),
        stem=("whiten",),
        stages=("act", "group1", "group2", "group3"),
        train="zoo_speedrun.training:train",
        evaluate="zoo_speedrun.views:evaluate",
        note="for 32x32 images; scored on six views of each",
    )


plugin = Plugin(
    name="speedrun",
    api=2,
    models=(
        _airbench("airbench94", (64, 256, 256), 2, params=1_972_792, macs=118_147_360),
        _airbench("airbench95", (128, 384, 384), 2, params=4_606_520, macs=301_560_864),
        _airbench("airbench96", (128, 384, 512), 3, params=9_918_776, macs=451_967_264),
    ),
    weights=("weights_manifest:speedrun.toml",),
    recipes="zoo_speedrun:recipes.toml",
    hook_args="zoo_speedrun.constants:Constants",
    file_args={
        "norm_momentum": Argument(least=0.0, most=1.0),
    },
)
