"""``zoo results show``: a table of results."""

import csv
from pathlib import Path

import click

from zoo.cli import options
from zoo.cli.output import print_json, print_table


@click.command(epilog="Example: zoo results show runs/results.csv")
@click.argument("file", type=options.FILE)
@options.json
def show(file: Path, as_json: bool) -> None:
    """Show a table of results."""
    with file.open(encoding="utf-8", newline="") as stream:
        rows = [*csv.DictReader(stream)]
    if as_json:
        return print_json(rows)
    return print_table([*rows[0]], [[*row.values()] for row in rows])
