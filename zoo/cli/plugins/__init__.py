"""``zoo plugins``: what is installed, and why a plugin cannot be used. Nothing here imports torch."""

import click

from zoo.cli import options
from zoo.cli.group import Commands

_SECTIONS = {
    "Installed plugins:": {
        "show": "zoo.cli.plugins.status:show",
        "disable": "zoo.cli.plugins.switch:disable",
        "enable": "zoo.cli.plugins.switch:enable",
    },
    "Your own plugin:": {
        "new": "zoo.cli.plugins.new:new",
        "check": "zoo.cli.plugins.check:check",
    },
}


@click.group(cls=Commands, sections=_SECTIONS, invoke_without_command=True, epilog="Example: zoo plugins show resnet")
@options.json
@click.pass_context
def plugins(context: click.Context, as_json: bool) -> None:
    """List the installed plugins and their state.

    Exits 1 if a plugin is broken or set aside.
    """
    if context.invoked_subcommand is None:
        from zoo.cli.plugins import status

        status.print_all(context, as_json=as_json)
    elif as_json:
        context.fail(f"--json belongs after '{context.invoked_subcommand}'.")
