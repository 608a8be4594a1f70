"""Groups of commands: they import a command when it is called, and turn errors into messages and exit codes."""

import mimetypes
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Any

import click

from zoo.cli.output import clean_log, complain, echo
from zoo.errors import ZooError

Homes = Mapping[str, str]
"""Names of commands and their addresses, ``"module:function"``."""


_MEANT = {
    "download": "fetch",
    "eval": "evaluate",
    "finetune": "train",
    "get": "fetch",
    "infer": "predict",
    "models": "list",
    "pull": "fetch",
    "search": "list",
    "test": "evaluate",
    "validate": "evaluate",
}
"""Names of Zoo's commands by what other programs call them."""


class Commands(click.Group):
    """A group that shows its commands in ``sections``, each under its heading, in the order given."""

    def __init__(self, *args: Any, sections: Mapping[str, Homes], **kwargs: Any) -> None:
        # Of each group, not of the root alone: click keeps a command's help option from its first use.
        super().__init__(*args, context_settings={"help_option_names": ["-h", "--help"]}, **kwargs)
        self.sections = sections
        self.homes = {name: home for homes in sections.values() for name, home in homes.items()}

    def brought(self) -> Mapping[str, Callable[[], click.Command]]:
        """Returns how to get the commands that plugins bring to this group, by name."""
        return {}

    def more_sections(self) -> Mapping[str, Collection[str]]:
        """Returns the commands of plugins under their headings."""
        brought = self.brought()
        return {"From plugins:": brought} if brought else {}

    def list_commands(self, context: click.Context) -> list[str]:
        return [*self.homes, *self.brought()]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self.homes:
            brought = self.brought()
            return brought[name]() if name in brought else None
        module, _, function = self.homes[name].partition(":")
        command: click.Command = getattr(import_module(module), function)
        return command

    def paths(self, context: click.Context) -> dict[str, str]:
        """Returns how to reach every command below, by its last word: ``{"pin": "manifest pin"}``."""
        names = self.list_commands(context)
        reached = {name: name for name in names}
        for name in names:
            command = self.get_command(context, name)
            for last, path in command.paths(context).items() if isinstance(command, Commands) else ():
                reached.setdefault(last, f"{name} {path}")
        return reached

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        is_known = name in self.homes or name in self.brought()
        if not is_known and not name.startswith("-") and not context.resilient_parsing:
            from difflib import get_close_matches

            paths = self.paths(context)
            near = [f" Did you mean '{context.command_path} {paths[key]}'?" for key in get_close_matches(name, paths)]
            if (meant := _MEANT.get(name)) in self.homes:
                near = [f" Did you mean '{context.command_path} {meant}'?"]
            context.fail(f"No such command {name!r}.{near[0] if near else f' {context.command_path} -h lists them.'}")
        return super().resolve_command(context, args)

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands, then the options. click cuts long descriptions; these are shown whole."""
        sections = {**self.sections, **self.more_sections()}
        width = max(len(name) for names in sections.values() for name in names)
        formatter.write_paragraph()
        for heading, names in sections.items():
            formatter.write(f"{heading}\n")
            with formatter.indentation():
                shown = {name.ljust(width): self.get_command(context, name) for name in names}
                formatter.write_dl([(name, part.get_short_help_str(limit=200)) for name, part in shown.items() if part])
        click.Command.format_options(self, context, formatter)

    def invoke(self, context: click.Context) -> Any:
        try:
            with clean_log():
                return super().invoke(context)
        except click.UsageError as error:
            of = error.ctx
            words = error.message.partition("Got unexpected extra argument (")[2].removesuffix(")")
            if of and words and not words.endswith("."):  # which a group further in has ended
                options = {option for parameter in of.command.params for option in parameter.opts}
                if "--image" in options and (mimetypes.guess_type(words)[0] or "").startswith("image/"):
                    raise click.UsageError(f"{error.message}. Use --image {words}.", of) from None
                if of.params.get("data", "") is None:
                    raise click.UsageError(f"{error.message}. Use --data {words}.", of) from None
            raise
        except ZooError as error:
            complain(error)
            context.exit(error.exit_code)
        except BrokenPipeError:  # click ends quietly
            raise
        except OSError as error:
            complain(error)
            context.exit(1)
        except KeyboardInterrupt as interrupt:
            echo(f"{' '.join(['Interrupted', *map(str, interrupt.args)])}.", err=True)
            context.exit(130)
