"""``zoo look``: what a network has learned."""

from collections.abc import Callable
from functools import partial

import click

from zoo.cli.group import Commands
from zoo.spec import LookQuestion

_SECTIONS = {
    "Layers:": {
        "layers": "zoo_look.cli.questions:layers",
        "filters": "zoo_look.cli.questions:filters",
        "diagnose": "zoo_look.cli.questions:diagnose",
        "features": "zoo_look.cli.questions:features",
    },
    "Units and classes:": {
        "deconv": "zoo_look.cli.units:deconv",
        "patches": "zoo_look.cli.units:patches",
        "maximize": "zoo_look.cli.units:maximize",
        "attribute": "zoo_look.cli.units:attribute",
        "confusion": "zoo_look.cli.questions:confusion",
    },
    "Comparisons:": {
        "invariance": "zoo_look.cli.questions:invariance",
        "representations": "zoo_look.cli.questions:representations",
        "trajectory": "zoo_look.cli.questions:trajectory",
        "whitening": "zoo_look.cli.questions:whitening",
    },
}


class Questions(Commands):
    """A group with the questions that plugins bring."""

    def brought(self) -> dict[str, Callable[[], click.Command]]:
        from zoo.registry import extensions

        return {one.name: partial(_ask, one.name, one.spec) for one in extensions.offered("looks", self.homes)}


def _ask(name: str, question: LookQuestion) -> click.Command:
    from zoo_look.cli.questions import command

    return command(name, question)


@click.group(cls=Questions, sections=_SECTIONS, epilog="Example: zoo look filters alexnet_small.c10 -o filters.png")
def look() -> None:
    """Show what a network has learned.

    Each command prints its result. -o FILE writes it: as a figure (.png, .webp, .svg,
    .pdf), as facts (.json) or as
    tensors (.safetensors). NAME without a tag means the model's default weights.
    """
