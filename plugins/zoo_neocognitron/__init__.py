"""The neocognitron: S-cells that extract features, C-cells that let them shift, learnt without gradients.

Fukushima 1980, "Neocognitron: A self-organizing neural network model for a mechanism of pattern
recognition unaffected by shift in position"; Fukushima 2003, "Neocognitron for handwritten digit
recognition"; Fukushima 2013, "Artificial vision by multi-layered neural networks: Neocognitron and its advances".

Faithful: sizes of all layers; the equations of S-, V- and C-cells, with division by inhibition; one
representative a plane and presentation; seed cells; a higher threshold in learning than in recognition.
``neocognitron_2003`` learns by the rules of its paper, ``neocognitron_2013`` has the same layers and learns by those
of 2013: add-if-silent and interpolating vectors. The numbers of planes follow from the training digits: they are build
arguments, which a weights file carries, so that it fits the network it rebuilds to the last tensor.

Deviates: the papers print neither the masks c and d nor the start of a: here they fall by a factor a cell.
Layers learn one after the other. S1 of 1980 starts from weak oriented lines; S1 of 2003 is made of ideal
edges, not taught. Of 2003, windows, gains and thresholds are ours,
and d by default falls more steeply for its surround without becoming negative. Sites whose input is less than a share
of the pattern's strongest seed no plane. Reference vectors hold UC3 at 5 x 5 places and are added, apart
from those that are misclassified, where their class's nearest segment is further than a cosine; segments are drawn
between the 64 nearest of a class.
"""

from typing import Any

from zoo.spec import Argument, DatasetSpec, Model, Paper, Plugin, unscaled

FUKUSHIMA_1980 = Paper(
    title="Neocognitron: A Self-organizing Neural Network Model for a Mechanism of Pattern Recognition "
    "Unaffected by Shift in Position",
    authors="Kunihiko Fukushima",
    year=1980,
    url="https://doi.org/10.1007/BF00344251",
)
FUKUSHIMA_2003 = Paper(
    title="Neocognitron for handwritten digit recognition",
    authors="Kunihiko Fukushima",
    year=2003,
    url="https://doi.org/10.1016/S0925-2312(02)00614-8",
)
FUKUSHIMA_2013 = Paper(
    title="Artificial vision by multi-layered neural networks: Neocognitron and its advances",
    authors="Kunihiko Fukushima",
    year=2013,
    url="https://doi.org/10.1016/j.neunet.2012.09.016",
)


def _row(name: str, build: str, side: int, **fields: Any) -> Model:
    return Model(
        name,
        build=f"zoo_neocognitron.model:{build}",
        preprocess=unscaled(1, side),
        num_classes=10,
        head=("head",),
        stages=("c1", "c2", "c3"),
        train="zoo_neocognitron.training:train",
        fitted=True,
        **fields,
    )


plugin = Plugin(
    name="neocognitron",
    api=2,
    models=(
        _row(
            "neocognitron_1980",
            "neocognitron_1980",
            16,
            paper=FUKUSHIMA_1980,
            params=29_712,
            stem=("s1",),
            note="unsupervised; its planes get labels afterwards",
        ),
        _row(
            "neocognitron_2003",
            "neocognitron_2003",
            65,
            args={"rule": "wta", "classifier": "competitive"},
            paper=FUKUSHIMA_2003,
            params=6_008_656,
            note="the rules of 2003: the strongest cell learns; planes as many as the training digits ask for",
        ),
        _row(
            "neocognitron_2013",
            "neocognitron_2003",
            65,
            args={"rule": "ais", "classifier": "iv"},
            paper=FUKUSHIMA_2013,
            params=2_200_656,
            note="the layers of 2003, the rules of 2013: add-if-silent, interpolating vectors",
        ),
    ),
    weights=("weights_manifest:neocognitron.toml",),
    recipes="zoo_neocognitron:recipes.toml",
    datasets=(
        DatasetSpec(
            "five_digits",
            load="zoo_neocognitron.five_digits:load",
            source="drawn here",
            license="Apache-2.0",
            images=30,
        ),
    ),
    file_args={
        "planes": Argument(least=1, most=2000, longest=4),
        "r": Argument(least=0.0, most=100.0, longest=4),
        "q": Argument(least=0.0, most=100.0, longest=4),
        "decay": Argument(least=0.0, most=1.0, longest=4),
        "digits": Argument(least=1, most=100_000),
        "theta": Argument(least=0.0, most=1.0, longest=4),
        "rule": Argument(("wta", "ais")),
        "classifier": Argument(("competitive", "iv")),
        "seeding": Argument(least=0, most=100_000),
        "surround": Argument(least=0.0, most=10.0, longest=4),
        "activity": Argument(least=0.0, most=10.0),
        "nearness": Argument(least=0.0, most=10.0),
    },
)
