"""``zoo recipes``."""

from typing import TYPE_CHECKING, Any

import click

from zoo import registry
from zoo.cli import options
from zoo.cli.output import note, print_json, print_table
from zoo.errors import RecipeError

if TYPE_CHECKING:
    from zoo.training.choice import Row


@click.command(epilog="Example: zoo recipes resnet20")
@click.argument("model", required=False, shell_complete=options.complete_name)
@options.json
def recipes(model: str | None, as_json: bool) -> None:
    """List training recipes with their scores and costs.

    With MODEL, lists those that fit it, with the fields that only its family has (--set hook_args.FIELD=VALUE). PFLOP
    counts 10^15 operations; times were measured on the machine named.
    """
    rows = _rows_for(model) if model else _all_rows()
    if as_json:
        return print_json([_describe(row) for row in rows])
    if not rows:
        return note(f"No recipes{f' for {model}' if model else ''}; --recipe default uses the default of every field.")
    titles = ("recipe", "family", "model", "data", "epochs", "top-1", "from", "PFLOP", "time", "own fields")
    table = [
        (
            row.recipe + "*" * row.is_default,
            "" if model else row.family,
            "" if model else row.model,
            row.data,
            "fitted" if row.is_fitted else str(row.settings.epochs),
            f"{row.expected.top1:.2f}%" if row.expected else "",
            (row.expected.weights or row.expected.source) if row.expected else "",
            _amount(row.pflop) if row.pflop else "",
            _duration(row.expected.seconds) if row.expected else "",
            ", ".join(f"{key}={value}" for key, value in row.own.items()) if model else "",
        )
        for row in rows
    ]
    print_table(titles, table, right=("epochs", "top-1", "PFLOP", "time"))
    if any(row.is_default for row in rows):
        note("* the default for that model and data set.")
    for machine in dict.fromkeys(row.expected.on for row in rows if row.expected and row.expected.on):
        note(f"Times on {machine}.")
    return None


def _rows_for(name: str) -> "list[Row]":
    from zoo.training import choice

    found = registry.current().find(name)
    return choice.rows(found.plugin, found.model)


def _all_rows() -> "list[Row]":
    """The recipes of every family; one that cannot be read does not hide the others."""
    from zoo.training import choice

    rows = []
    for plugin in choice.plugins_with_recipes():
        try:
            rows += choice.rows(plugin)
        except RecipeError as error:
            note(f"Not shown: {plugin.name}: {error.message}")
    return rows


def _describe(row: "Row") -> dict[str, Any]:
    return {
        "recipe": row.recipe,
        "family": row.family,
        "model": row.model,
        "data": row.data,
        "default": row.is_default,
        "fitted": row.is_fitted,
        "expected": row.expected,
        "pflop": row.pflop,
        "settings": row.settings,
        "hook_args": row.own,
    }


def _amount(pflop: float) -> str:
    return f"{pflop:,.0f}" if pflop >= 10 else f"{pflop:.2g}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds else ""
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
