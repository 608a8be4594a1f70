"""``zoo plugins disable`` and ``zoo plugins enable``: which plugins this user wants. No plugin is imported for it."""

import click

from zoo.cli import options
from zoo.cli.output import note, print_json
from zoo.errors import UnknownNameError
from zoo.registry import discovery


@click.command(epilog="Example: zoo plugins disable hello")
@click.argument("name", shell_complete=options.complete_family)
@options.json
def disable(name: str, as_json: bool) -> None:
    """Neither import nor use a plugin from now on.

    The choice is this user's and holds in all environments, until zoo plugins enable undoes it.
    """
    _check(name, discovery.installed_names())
    discovery.change_disabled(lambda before: before | {name})
    _print(name, as_json=as_json)


@click.command(epilog="Example: zoo plugins enable hello")
@click.argument("name", shell_complete=options.complete_family)
@options.json
def enable(name: str, as_json: bool) -> None:
    """Use a plugin again that was disabled."""
    _check(name, {*discovery.installed_names(), *discovery.disabled()})
    discovery.change_disabled(lambda before: before - {name})
    _print(name, as_json=as_json)


def _check(name: str, known: set[str]) -> None:
    if name not in known:
        raise UnknownNameError.of("plugin", name, sorted(known), hint="zoo plugins shows all plugins.")


def _print(name: str, *, as_json: bool) -> None:
    reason = discovery.choice().why_disabled(name)
    if as_json:
        return print_json(
            {"name": name, "disabled": bool(reason), "reason": reason, "file": str(discovery.place_of_choice())}
        )
    return note(f"{name} is disabled: {reason}." if reason else f"{name} is enabled.")
