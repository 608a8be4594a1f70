"""The options of commands that run jobs on an engine: this machine, a Slurm cluster or a Ray cluster."""

from typing import Any

import click

from zoo.cli import options
from zoo_bulk.engines import NAMES

engine_options = options.several(
    click.option("--engine", type=click.Choice(NAMES), default=NAMES[0], show_default=True, help="What runs the jobs."),
    options.pairs("--engine-arg", "engine_args", help="Setting of the engine. Repeatable."),
)


def engine_settings(context: click.Context) -> dict[str, Any]:
    """Returns the engine that was asked for and its settings, as :func:`zoo_bulk.engines.run` takes them."""
    from zoo.training.choice import read_value

    pairs = context.params["engine_args"]
    return {
        "engine": context.params["engine"],
        "settings": {key: read_value(value) for key, value in pairs.items()},
    }
