"""The root command: finds its commands lazily, turns errors into messages and exit codes."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from zoo.cli.output import clean_log, complain, echo
from zoo.errors import ZooError


class Commands(click.Group):
    """A group whose commands are addresses, ``"module:function"``, in the order a person meets them."""

    def __init__(self, *args: Any, homes: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.homes = homes

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.homes)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self.homes:
            return None
        module, _, function = self.homes[name].partition(":")
        command: click.Command = getattr(import_module(module), function)
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.homes and not name.startswith("-") and not context.resilient_parsing:
            from difflib import get_close_matches

            near = get_close_matches(name, self.homes, n=1)
            context.fail(f"No such command {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(context, args)

    def invoke(self, context: click.Context) -> Any:
        try:
            with clean_log():
                return super().invoke(context)
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
