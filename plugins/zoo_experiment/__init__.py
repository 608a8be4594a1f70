"""The experiments of the lecture: a claim, the trainings that test it, and whether it holds.

``zoo experiment NAME`` shows what was published at once, trains a small version in about a minute (``--quick``), or the
whole (``--full``). In Python: ``zoo.experiment.published("degradation")`` and ``zoo.experiment.run``.
"""

from zoo.spec import Plugin

plugin = Plugin(
    "experiment",
    api=2,
    commands={"experiment": "zoo_experiment.cli:experiment"},
    modules={"experiment": "zoo_experiment.experiments"},
)
