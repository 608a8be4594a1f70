"""``zoo look``: what a network has learned, drawn, told and kept."""

import click

from zoo.cli.group import Commands

_HOMES = {
    "layers": "zoo.cli.look.images:layers",
    "filters": "zoo.cli.look.images:filters",
    "diagnose": "zoo.cli.look.images:diagnose",
    "features": "zoo.cli.look.images:features",
    "deconv": "zoo.cli.look.units:deconv",
    "patches": "zoo.cli.look.units:patches",
    "maximize": "zoo.cli.look.units:maximize",
    "attribute": "zoo.cli.look.units:attribute",
    "invariance": "zoo.cli.look.comparisons:invariance",
    "representations": "zoo.cli.look.comparisons:representations",
    "whitening": "zoo.cli.look.comparisons:whitening",
}


@click.group(cls=Commands, homes=_HOMES)
def look() -> None:
    """Look inside networks.

    Each command prints what was found; -o keeps it: drawn (.png, .svg, .pdf), facts (.json), tensors (.safetensors).
    """
