"""Transfer: a network's features of a data set, and other classifiers fitted to them."""

from zoo.spec import Plugin

plugin = Plugin(
    "transfer",
    api=2,
    commands={
        "features": "zoo_transfer.cli:features",
        "classify": "zoo_transfer.cli:classify",
        "choose": "zoo_transfer.cli:choose",
    },
    modules={"features": "zoo_transfer.extraction:features", "classifiers": "zoo_transfer.classifiers"},
)
