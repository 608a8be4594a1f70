"""``zoo results``: tables of results, shown and measured."""

import click

from zoo.cli.group import Commands

_SECTIONS = {
    "Commands:": {
        "show": "zoo.cli.results.show:show",
        "metrics": "zoo.cli.results.metrics:metrics",
    }
}


@click.group(cls=Commands, sections=_SECTIONS, epilog="Example: zoo results show runs/results.csv")
def results() -> None:
    """Show and compare the results of many weights."""
