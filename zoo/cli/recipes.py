"""``zoo recipes``, ``zoo reproduce``: recipes, and training again from a record."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo import registry
from zoo.cli import options
from zoo.cli.output import echo, note, print_facts, print_json, print_table, stdout_to_stderr
from zoo.errors import RecipeError

if TYPE_CHECKING:
    from zoo.training.choice import Row
    from zoo.training.reproduce import Reproduction


@click.command(epilog="Example: zoo recipes resnet20")
@click.argument("model", required=False, shell_complete=options.complete_name, callback=options.refuse_pattern)
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
    titles = (
        "recipe",
        "family",
        "model",
        "data",
        "epochs",
        "top-1",
        "from",
        "PFLOP",
        "time",
        "its protocol",
        "own fields",
    )
    table = [
        (
            row.recipe + "*" * row.is_default,
            "" if model else row.family,
            "" if model else row.model,
            row.data,
            "fitted" if row.is_fitted else str(row.settings.epochs),
            row.expected.figure if row.expected else "",
            (row.expected.weights or row.expected.reference) if row.expected else "",
            f"{row.pflop:,.0f}" if row.pflop and row.pflop >= 10 else f"{row.pflop:.2g}" if row.pflop else "",
            _duration(row.expected.seconds) if row.expected else "",
            row.difference,
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
    """Returns the recipes of every family; one that cannot be read does not hide the others."""
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
        "difference": row.difference,
        "pflop": row.pflop,
        "settings": row.settings,
        "hook_args": row.own,
    }


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds else ""
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


_SAID = {
    "file": "bit-identical, the same file",
    "tensors": "bit-identical tensors, another header",
    "score": "other bits, the same score as far as two samples tell",
    "different": "different",
}


@click.command(epilog="Example: zoo reproduce resnet20.digits")
@click.argument(
    "name", metavar="NAME.TAG|DIR|FILE", shell_complete=options.complete_name, callback=options.refuse_pattern
)
@options.output("Write the run to DIR.  [default: reproduced/NAME.TAG]", options.NEW_FOLDER, required=False)
@click.option("--resume", is_flag=True, help="Resume the run in DIR.")
@options.checkpoint_every
@options.keep_epochs
@click.option("--data", help="Name or path of the data set.  [default: the record's]")
@click.option("--init", metavar="FILE", help="Weights that the training started from.  [default: the record's]")
@click.option("--teacher", metavar="FILE", help="Weights that the training learned from.  [default: the record's]")
@click.option("--allow-other-data", is_flag=True, help="Train even if the images differ from the record's.")
@options.several(options.recorded_device, options.json)
@click.pass_context
def reproduce(context: click.Context, /, name: str, output: Path | None, as_json: bool, **keywords: Any) -> None:
    """Train weights again from their training record.

    Prints whether the result is bit-identical, has the same score as far as two samples tell, or is different, and
    what differs from the record. Exits 1 if different. Ctrl-C writes a checkpoint; --resume continues.
    """
    from zoo.training import reproduce as reproduction

    output = output or Path("reproduced", Path(name).absolute().name.removesuffix(".safetensors"))
    try:
        with stdout_to_stderr():
            result = reproduction.reproduce(name, output=output, **keywords)
    except KeyboardInterrupt:
        _print_interrupted(context.params, output)
        context.exit(130)
    if as_json:
        print_json(result)
    else:
        _print_reproduction(result)
    context.exit(0 if result.succeeded else 1)


def _print_reproduction(result: "Reproduction") -> None:
    echo(f"{result.name}: {_SAID[result.outcome]}")
    is_same = result.sha256 == result.expected
    facts = [
        ("weights", str(result.weights)),
        ("sha256", result.sha256 if is_same else f"{result.sha256}, the original's {result.expected}"),
        (
            "tensors",
            f"{result.unequal} of {result.tensors} differ" if result.unequal else f"all {result.tensors} equal",
        ),
        ("score", result.comparison.message if result.comparison else ""),
    ]
    print_facts(facts)
    if result.outcome == "file":
        return
    if result.differences:
        echo("differences from the record:")
        print_facts(
            [(row.what, f"{row.then or 'not recorded'}, here {row.now or 'none'}") for row in result.differences]
        )
    else:
        note("Everything recorded is the same; what differs is not recorded, such as the code of Zoo or of the family.")


def _print_interrupted(parameters: dict[str, Any], output: Path) -> None:
    if not (output / "checkpoint.safetensors").exists():
        return note("Interrupted before the first checkpoint.")
    words = ["zoo", "reproduce", parameters["name"]]
    for option in ("data", "init", "teacher", "device"):
        words += [f"--{option}", parameters[option]] if parameters[option] else []
    words += ["--allow-other-data"] if parameters["allow_other_data"] else []
    return note(f"Interrupted. Continue with\n  {shlex.join([*words, '-o', str(output), '--resume'])}")
