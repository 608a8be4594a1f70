"""``zoo attack``: images that fool a network, and how its accuracy falls under attack."""

import click

from zoo.cli.group import Commands

_HOMES = {
    "image": "zoo.cli.attack.images:image",
    "curve": "zoo.cli.attack.images:curve",
    "patch": "zoo.cli.attack.patch:patch",
}


@click.group(cls=Commands, homes=_HOMES)
def attack() -> None:
    """Fool networks: one image, a data set over epsilon, a patch.

    Epsilon is in pixel units before normalisation, values in [0, 1]: 8/255 or 0.03.
    """
