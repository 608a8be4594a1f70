"""``zoo manifest``: what maintainers of a manifest need. ``zoo lock`` is for everyone."""

import click

from zoo.cli.group import Commands

_SECTIONS = {
    "Commands:": {
        "pin": "zoo.cli.trust.pin:pin",
        "probe": "zoo.cli.verify:probe",
        "sign": "zoo.cli.trust.sign:sign",
        "verify-signature": "zoo.cli.trust.sign:verify_signature",
    }
}


@click.group(cls=Commands, sections=_SECTIONS, epilog="Example: zoo manifest pin resnet20.mine --manifest mine.toml")
def manifest() -> None:
    """Maintain a manifest: pin, probe and sign its weights."""
