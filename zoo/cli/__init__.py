"""The command line. One file a command or two, imported when one of them is called."""

import sys
from collections.abc import Callable
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import click

from zoo import __version__
from zoo.cli import output
from zoo.cli.group import Commands
from zoo.errors import PluginError, ZooError

if TYPE_CHECKING:
    from zoo.registry.extensions import Tool

_SECTIONS = {
    "Use:        zoo predict resnet20.digits digit.png": {
        "list": "zoo.cli.list:list_models",
        "info": "zoo.cli.info:info",
        "fetch": "zoo.cli.fetch:fetch",
        "predict": "zoo.cli.evaluate:predict",
        "evaluate": "zoo.cli.evaluate:evaluate",
        "calibrate": "zoo.cli.evaluate:calibrate",
        "benchmark": "zoo.cli.benchmark:benchmark",
        "results": "zoo.cli.results:results",
    },
    "Train:      zoo train resnet20 --data digits -o run": {
        "train": "zoo.cli.train:train",
        "recipes": "zoo.cli.recipes:recipes",
        "reproduce": "zoo.cli.recipes:reproduce",
    },
    "Trust:      zoo lock resnet20.digits": {
        "verify": "zoo.cli.verify:verify",
        "lock": "zoo.cli.trust:lock",
        "cache": "zoo.cli.cache:cache",
    },
    "Share:      zoo plugins new hello": {
        "plugins": "zoo.cli.plugins:plugins",
        "manifest": "zoo.cli.trust:manifest_commands",
        "completion": "zoo.cli.options:completion",
    },
}


class Root(Commands):
    """The group ``zoo``, with the commands that plugins bring: ``zoo detect``, and ``zoo train`` where ``--queue`` is
    given."""

    def brought(self) -> dict[str, Callable[[], click.Command]]:
        return {name: partial(_command_of, name, tool) for name, tool in self._tools().items() if " " not in name}

    def more_sections(self) -> dict[str, list[str]]:
        builtin = {name: tool.is_builtin for name, tool in self._tools().items() if " " not in name}
        sections = {
            "Tools:": [name for name, is_builtin in sorted(builtin.items()) if is_builtin],
            "From plugins:": [name for name, is_builtin in builtin.items() if not is_builtin],
        }
        return {heading: names for heading, names in sections.items() if names}

    def variants(self, command: click.Command | None, name: str) -> dict[str, "Tool"]:
        """Returns what plugins bring for options that ``command`` does not have itself: ``{"--queue": ...}``."""
        if isinstance(command, click.Group):  # zoo plugins disable must ask no plugin
            return {}
        brought = {full.partition(" ")[2]: tool for full, tool in self._tools().items() if full.startswith(f"{name} ")}
        return {option: tool for option, tool in brought.items() if not _declares(command, option)}

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        command = super().get_command(context, name)
        variants = self.variants(command, name)
        if command is None or not variants:
            return command
        command = copy(command)  # what the module has is everyone's
        command.params = [*command.params, *(_Pointer(name, option) for option in variants)]
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from zoo.registry import extensions

        name, *words = args
        if name not in self.homes:
            extensions.require_uncontested(name)
        command = super().get_command(context, name)
        variants = self.variants(command, name)
        for word in words[: words.index("--")] if "--" in words else words:
            option = word.partition("=")[0]
            if option in variants:
                asks_help = bool({"-h", "--help"} & {*words})  # which the option would take for its value
                return name, _command_of(f"{name} {option}", variants[option]), ["--help"] if asks_help else words
            if option.startswith("--") and not isinstance(command, click.Group) and not _declares(command, option):
                extensions.require_uncontested(f"{name} {option}")
        return super().resolve_command(context, args)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except click.NoSuchOption as error:
            name = (error.ctx.info_name if error.ctx is not None else "") or ""
            command, used = super().get_command(context, name), error.ctx and error.ctx.command
            variants = {of: _command_of(f"{name} {of}", tool) for of, tool in self.variants(command, name).items()}
            option = next((of for of, variant in variants.items() if variant is used), None)
            if option is not None and (error.option_name in variants or _declares(command, error.option_name)):
                raise click.UsageError(f"{error.option_name} and {option} exclude each other.", error.ctx) from None
            needed = [of for of, variant in variants.items() if _declares(variant, error.option_name)]
            if option is None and needed:
                raise click.UsageError(f"{error.option_name} needs {' or '.join(needed)}.", error.ctx) from None
            raise

    def _tools(self) -> dict[str, "Tool"]:
        from zoo.registry import extensions

        return extensions.commands(self.homes)


class _Pointer(click.Option):
    """An option in the help of a command, where a plugin's command takes over."""

    def __init__(self, name: str, option: str) -> None:
        note = f"Another command: zoo {name} {option} --help."
        super().__init__([option], is_flag=True, expose_value=False, help=note)


def _declares(command: click.Command | None, option: str) -> bool:
    """Returns whether ``command`` has ``option`` itself."""
    parameters = command.params if command is not None else ()
    return any(option in parameter.opts for parameter in parameters if not isinstance(parameter, _Pointer))


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
    """Runs the ``zoo`` command."""
    sys.excepthook = lambda kind, error, trace: output.show_unexpected(error)
    cli(prog_name="zoo")
