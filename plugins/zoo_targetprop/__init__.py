"""Learning without backpropagation: difference target propagation, feedback alignment.

Lee, Zhang, Fischer, Bengio 2014, "Difference Target Propagation" (ECML 2015); Lillicrap, Cownden,
Tweed, Akerman 2016, "Random synaptic feedback weights support error backpropagation for deep learning".

Faithful: the multilayer perceptron of 7 x 240 tanh units, orthogonal at first; targets by the difference
rule; inverses that learn to undo noisy inputs; the last layer, and the target of the one below it, by the
gradient of the true loss; centred RMSProp for both directions, each at its own rate.

Deviates: forward weights and inverses learn in the same updates, where the authors' program passes over
all images for the inverses first. ``dtp_conv`` is ours: the paper has no convolutional network.

The rule is an argument, kept with the weights: ``zoo train dtp_mlp --data mnist --arg rule=backprop``
trains the same network by backpropagation, ``rule=feedback_alignment`` by random feedback. What a rule
adds to the network (inverses, feedback weights) is there while it trains and not in the weights file.
"""

from typing import Any

from zoo.spec import Argument, Model, Paper, Plugin, unscaled

LEE_2014 = Paper(
    title="Difference Target Propagation",
    authors="Dong-Hyun Lee, Saizheng Zhang, Asja Fischer, Yoshua Bengio",
    year=2014,
    url="https://arxiv.org/abs/1412.7525",
)


def _row(name: str, *, params: int, macs: int, stages: tuple[str, ...], note: str, **args: Any) -> Model:
    return Model(
        name,
        build=f"zoo_targetprop.model:{name}",
        args=args,
        paper=LEE_2014,
        preprocess=unscaled(1, 28),
        params=params,
        macs=macs,
        num_classes=10,
        head=("fc",),
        stem=("layers.0.linear",),
        stages=stages,
        train="zoo_targetprop.training:train",
        note=note,
    )


plugin = Plugin(
    name="targetprop",
    api=2,
    models=(
        _row(
            "dtp_mlp",
            params=537_850,
            macs=536_160,
            stages=tuple(f"layers.{layer}" for layer in range(7)),
            note="7 hidden layers of 240 tanh units",
        ),
        _row(
            "dtp_conv",
            params=824_458,
            macs=1_764_992,
            stages=("layers.0", "layers.1", "layers.2"),
            note="two convolutions of stride 2 and a hidden layer, tanh; not in the paper",
        ),
    ),
    weights=("weights_manifest:targetprop.toml",),
    recipes="zoo_targetprop:recipes.toml",
    hook_args="zoo_targetprop.constants:Constants",
    file_args={
        "hidden": Argument(least=1, most=4096),
        "depth": Argument(least=1, most=32),
        "rule": Argument(("dtp", "backprop", "feedback_alignment")),
    },
)
