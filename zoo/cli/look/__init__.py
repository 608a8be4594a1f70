"""``zoo look``: what a network has learned."""

from collections.abc import Callable
from functools import partial

import click

from zoo.cli.group import Commands
from zoo.spec import LookQuestion

_SECTIONS = {
    "Layers:": {
        "layers": "zoo.cli.look.layers:layers",
        "filters": "zoo.cli.look.layers:filters",
        "diagnose": "zoo.cli.look.layers:diagnose",
        "features": "zoo.cli.look.layers:features",
    },
    "Units and classes:": {
        "deconv": "zoo.cli.look.units:deconv",
        "patches": "zoo.cli.look.units:patches",
        "maximize": "zoo.cli.look.units:maximize",
        "attribute": "zoo.cli.look.units:attribute",
        "confusion": "zoo.cli.look.classes:confusion",
    },
    "Comparisons:": {
        "invariance": "zoo.cli.look.comparisons:invariance",
        "representations": "zoo.cli.look.comparisons:representations",
        "whitening": "zoo.cli.look.comparisons:whitening",
    },
}


class Questions(Commands):
    """With the questions that plugins bring."""

    def brought(self) -> dict[str, Callable[[], click.Command]]:
        from zoo.registry import extensions

        return {one.name: partial(_ask, one.name, one.spec) for one in extensions.offered("looks", self.homes)}


def _ask(name: str, question: LookQuestion) -> click.Command:
    from zoo.cli.look.own import command

    return command(name, question)


@click.group(cls=Questions, sections=_SECTIONS, epilog="Example: zoo look filters alexnet_small.c10 -o filters.png")
def look() -> None:
    """Show what a network has learned.

    Each command prints its result. -o FILE writes it: as a figure (.png, .svg, .pdf), as facts (.json) or as
    tensors (.safetensors). NAME without a tag means the model's default weights.
    """
