"""The command line. One file a group of commands, imported when one of them is called."""

import click

from zoo import __version__
from zoo.cli.group import Commands

_HOMES = {
    "list": "zoo.cli.list:list_models",
    "info": "zoo.cli.list:info",
    "fetch": "zoo.cli.weights.fetch:fetch",
    "predict": "zoo.cli.evaluate:predict",
    "evaluate": "zoo.cli.evaluate:evaluate",
    "train": "zoo.cli.train.train:train",
    "recipes": "zoo.cli.train.recipes:recipes",
    "reproduce": "zoo.cli.train.reproduce:reproduce",
    "attack": "zoo.cli.attack:attack",
    "features": "zoo.cli.transfer:features",
    "classify": "zoo.cli.transfer:classify",
    "look": "zoo.cli.look:look",
    "verify": "zoo.cli.verify:verify",
    "probe": "zoo.cli.verify:probe",
    "cache": "zoo.cli.weights.cache:cache",
    "convert": "zoo.cli.weights.convert:convert",
    "publish": "zoo.cli.weights.publish:publish",
    "pin": "zoo.cli.trust.pin:pin",
    "lock": "zoo.cli.trust.lock:lock",
    "pack": "zoo.cli.trust.pack:pack",
    "sign": "zoo.cli.trust.sign:sign",
    "verify-signature": "zoo.cli.trust.sign:verify_signature",
    "plugins": "zoo.cli.plugins:plugins",
    "completion": "zoo.cli.completion:completion",
}


@click.group(cls=Commands, homes=_HOMES)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli(debug: bool) -> None:
    """Vision architectures, and weights that can be believed.

    A name gives a network (resnet152), a name with a tag a trained one (resnet20.digits).
    Exit codes: 0 done, 1 failed, 2 asked wrongly.
    """


def main() -> None:
    """The ``zoo`` command."""
    cli(prog_name="zoo")
