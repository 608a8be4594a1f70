"""The command line. One file a command or two, imported when one of them is called."""

import click

from zoo import __version__
from zoo.cli.group import Commands

_SECTIONS = {
    "Use:        zoo predict resnet20.digits digit.png": {
        "list": "zoo.cli.list:list_models",
        "info": "zoo.cli.info:info",
        "fetch": "zoo.cli.weights.fetch:fetch",
        "predict": "zoo.cli.evaluate:predict",
        "evaluate": "zoo.cli.evaluate:evaluate",
        "calibrate": "zoo.cli.calibrate:calibrate",
        "benchmark": "zoo.cli.benchmark:benchmark",
        "results": "zoo.cli.results:results",
    },
    "Train:      zoo train resnet20 --data digits -o run": {
        "train": "zoo.cli.train.train:train",
        "recipes": "zoo.cli.train.recipes:recipes",
        "reproduce": "zoo.cli.train.reproduce:reproduce",
        "features": "zoo.cli.transfer:features",
        "classify": "zoo.cli.transfer:classify",
    },
    "Look:       zoo look features resnet20.digits --layer layer1 --image digit.png": {
        "look": "zoo.cli.look:look",
        "attack": "zoo.cli.attack:attack",
        "course": "zoo.cli.course:course",
        "gallery": "zoo.cli.gallery:gallery",
    },
    "Trust:      zoo lock resnet20.digits": {
        "verify": "zoo.cli.verify:verify",
        "lock": "zoo.cli.trust.lock:lock",
        "attest": "zoo.cli.trust.attest:attest",
        "audit": "zoo.cli.weights.audit:audit",
        "cache": "zoo.cli.weights.cache:cache",
    },
    "Share:      zoo publish run --as resnet20.mine --to ./hub": {
        "publish": "zoo.cli.weights.publish:publish",
        "export": "zoo.cli.export:export",
        "convert": "zoo.cli.weights.convert:convert",
        "plugins": "zoo.cli.plugins:plugins",
        "manifest": "zoo.cli.trust:manifest",
        "completion": "zoo.cli.completion:completion",
    },
}


@click.group(cls=Commands, sections=_SECTIONS)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli(debug: bool) -> None:
    """Plugin-based model zoo for PyTorch with verified pretrained weights.

    Exit codes: 0 done, 1 failed, 2 usage error.
    """


def main() -> None:
    """The ``zoo`` command."""
    cli(prog_name="zoo")
