"""``zoo plugins``: what is installed, and why some of it cannot be used. Nothing here imports torch."""

from collections import Counter

import click

from zoo import registry
from zoo.cli.options import check_family, complete_family, json_option
from zoo.cli.output import print_json, print_table, show_traceback
from zoo.registry import PluginRow, import_guard


@click.command()
@click.argument("name", required=False, shell_complete=complete_family)
@json_option
@click.pass_context
def plugins(context: click.Context, name: str | None, as_json: bool) -> None:
    """Show the installed plugins: their state, and why one cannot be used.

    With NAME, that plugin alone: it is imported even if its last import ended the process, and with
    zoo --debug the traceback of what it raised is shown. Exits 1 if one of the plugins shown is broken
    or set aside.
    """
    if name is not None:
        import_guard.forget(name)
    registered = registry.current()
    check_family(context, context.command.params[0], name)
    models, weights = Counter[PluginRow](), Counter[PluginRow]()
    for entry in registered.models(registered.collections):  # reads the manifests, so that a bad one shows
        models[entry.row] += 1
        weights[entry.row] += len(entry.weights)
    chosen = [row for row in registered.plugins if name in (None, row.name)]
    if as_json:
        print_json(
            [
                {
                    "name": row.name,
                    "distribution": row.distribution,
                    "version": row.version,
                    "status": row.status,
                    "reason": row.reason,
                    "models": models[row],
                    "weights": weights[row],
                    "builtin": row.is_builtin,
                }
                for row in chosen
            ]
        )
    else:
        rows = [
            (row.name, row.distribution, row.version, row.status, str(models[row]), str(weights[row]), row.reason)
            for row in chosen
        ]
        titles = ("plugin", "distribution", "version", "status", "models", "weights", "reason")
        print_table(titles, rows, right=("models", "weights"))
    failed = [row for row in chosen if row.status in ("broken", "set aside")]
    for row in failed:
        show_traceback(row.error)
    context.exit(int(bool(failed)))
