"""``zoo plugins``: what is installed, and why a plugin cannot be used. Nothing here imports torch."""

from collections import Counter

import click

from zoo import registry
from zoo.cli import options
from zoo.cli.output import print_json, print_table, show_traceback
from zoo.registry import PluginRow, import_guard


@click.command(epilog="Example: zoo plugins resnet")
@click.argument("name", required=False, shell_complete=options.complete_family)
@options.json
@click.pass_context
def plugins(context: click.Context, name: str | None, as_json: bool) -> None:
    """List the installed plugins and their state.

    NAME shows one plugin: it is imported even if its last import ended the process, and zoo --debug shows the
    traceback of its error. Exits 1 if a plugin shown is broken or set aside.
    """
    if name is not None:
        import_guard.forget(name)
    registered = registry.current()
    options.check_family(context, context.command.params[0], name)
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
