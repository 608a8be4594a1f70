"""The command line. One file a command or two, imported when one of them is called."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import click

from zoo import __version__
from zoo.cli.group import Commands
from zoo.errors import PluginError, ZooError

if TYPE_CHECKING:
    from zoo.registry.tools import Tool

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
    },
    "Trust:      zoo lock resnet20.digits": {
        "verify": "zoo.cli.verify:verify",
        "lock": "zoo.cli.trust.lock:lock",
        "cache": "zoo.cli.weights.cache:cache",
    },
    "Share:      zoo plugins new hello": {
        "plugins": "zoo.cli.plugins:plugins",
        "manifest": "zoo.cli.trust:manifest",
        "completion": "zoo.cli.completion:completion",
    },
}


class Root(Commands):
    """With the commands that plugins bring: ``zoo detect``."""

    def brought(self) -> dict[str, Callable[[], click.Command]]:
        from zoo.registry import tools

        return {name: partial(_command_of, name, tool) for name, tool in tools.commands(self.homes).items()}

    def more_sections(self) -> dict[str, list[str]]:
        from zoo.registry import tools

        builtin = {name: tool.is_builtin for name, tool in tools.commands(self.homes).items()}
        sections = {
            "Tools:": [name for name, is_builtin in sorted(builtin.items()) if is_builtin],
            "From plugins:": [name for name, is_builtin in builtin.items() if not is_builtin],
        }
        return {heading: names for heading, names in sections.items() if names}

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.homes:
            from zoo.registry import tools

            tools.require_uncontested(args[0])
        return super().resolve_command(context, args)


def _command_of(name: str, tool: "Tool") -> click.Command:
    """Imports a plugin's command; one that cannot be imported says so when it is called, and in the help."""
    from zoo.registry import hook

    def fail() -> NoReturn:
        raise error

    try:
        command: object = hook(tool.address)
        if not isinstance(command, click.Command):
            raise PluginError(f"{tool.address} is a {type(command).__name__}, expected a click.Command.")
    except ZooError as raised:
        error = raised
        takes_all = {"ignore_unknown_options": True, "allow_extra_args": True}
        return click.Command(name, takes_all, fail, short_help=f"cannot be used: {raised}", add_help_option=False)
    return command


@click.group(cls=Root, sections=_SECTIONS)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli(debug: bool) -> None:
    """Plugin-based model zoo for PyTorch with verified pretrained weights.

    Exit codes: 0 done, 1 failed, 2 usage error.
    """


def main() -> None:
    """The ``zoo`` command."""
    cli(prog_name="zoo")
