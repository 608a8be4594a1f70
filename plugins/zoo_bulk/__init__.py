"""Bulk work: a command for many weights as a list of jobs with a table of results, and a queue of trainings."""

from zoo.spec import Plugin

plugin = Plugin(
    "bulk",
    api=2,
    commands={
        "bulk": "zoo_bulk.cli:bulk",
        "train --queue": "zoo_bulk.cli:train_queue",
        "train --seeds": "zoo_bulk.cli:train_seeds",
    },
)
