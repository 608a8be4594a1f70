"""``zoo attack``: images that fool a network, and its accuracy under attack."""

import click

from zoo.cli.group import Commands

_SECTIONS = {
    "Commands:": {
        "image": "zoo_attack.cli.images:image",
        "curve": "zoo_attack.cli.images:curve",
        "series": "zoo_attack.cli.images:series",
        "patch": "zoo_attack.cli.patch:patch",
    }
}


@click.group(
    cls=Commands, sections=_SECTIONS, epilog="Example: zoo attack image resnet20.digits digit.png --epsilon 16/255"
)
def attack() -> None:
    """Fool a network and measure its robustness.

    Epsilon is in pixel units before normalisation, with values in [0, 1]: 8/255 or 0.03.
    """
