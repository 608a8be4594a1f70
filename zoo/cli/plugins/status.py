"""``zoo plugins`` and ``zoo plugins show``: the state of the installed plugins."""

from collections import Counter

import click

from zoo import registry
from zoo.cli import options
from zoo.cli.output import echo, print_json, print_table
from zoo.registry import PluginRow


@click.command(epilog="Example: zoo plugins show resnet")
@click.argument("name", shell_complete=options.complete_family)
@options.json
@click.pass_context
def show(context: click.Context, name: str, as_json: bool) -> None:
    """Show the state of one plugin.

    If it is broken, zoo --debug shows the traceback of its error. Exits 1 if it is broken or set aside.
    """
    options.check_family(context, context.command.params[0], name)
    _print(context, [row for row in registry.current().plugins if row.name == name], as_json=as_json)


def print_all(context: click.Context, *, as_json: bool) -> None:
    """Prints all plugins and exits with 1 if one cannot be used."""
    _print(context, list(registry.current().plugins), as_json=as_json)


def _print(context: click.Context, chosen: list[PluginRow], *, as_json: bool) -> None:
    registered = registry.current()
    models, weights = Counter[PluginRow](), Counter[PluginRow]()
    for named in registered.named(registered.collections):
        if named.bringer is None:
            models[named.row] += 1
            weights[named.row] += len(registered.own_tags(named.row, named.arch))
    for row in chosen:
        weights[row] += sum(map(len, row.brought_tags.values()))
    reasons = {row: row.reason or _missing(registered.missing(row)) for row in chosen}
    if as_json:
        print_json(
            [
                {
                    "name": row.name,
                    "distribution": row.distribution,
                    "version": row.version,
                    "status": row.status,
                    "reason": reasons[row],
                    "models": models[row],
                    "weights": weights[row],
                    "builtin": row.is_builtin,
                }
                for row in chosen
            ]
        )
    else:
        rows = [
            (row.name, row.distribution, row.version, row.status, str(models[row]), str(weights[row]), reasons[row])
            for row in chosen
        ]
        titles = ("plugin", "distribution", "version", "status", "models", "weights", "reason")
        print_table(titles, rows, right=("models", "weights"))
    failed = [row for row in chosen if row.status in ("broken", "set aside")]
    for row in failed if context.find_root().params.get("debug") else ():
        echo(row.traceback.rstrip(), err=True)
    context.exit(int(bool(failed)))


def _missing(archs: list[str]) -> str:
    """The remark on a plugin that brings weights for models that cannot be found."""
    named = ", ".join(archs[:5]) + (f" and {len(archs) - 5} more" if len(archs) > 5 else "")
    return f"it brings weights of models that cannot be found: {named}" if archs else ""
