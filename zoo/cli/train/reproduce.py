"""``zoo reproduce``."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli import options
from zoo.cli.output import echo, note, print_facts, print_json, stdout_to_stderr

if TYPE_CHECKING:
    from zoo.training.reproduce import Reproduction

_SAID = {
    "file": "bit-identical, the same file",
    "tensors": "bit-identical tensors, another header",
    "score": "the same score within the interval, not bit-identical",
    "different": "different",
}


@click.command(epilog="Example: zoo reproduce resnet20.digits")
@click.argument("name", metavar="NAME.TAG|DIR|FILE", shell_complete=options.complete_name)
@options.output("Write the run to DIR.  [default: reproduced/NAME.TAG]", options.NEW_FOLDER, required=False)
@click.option("--resume", is_flag=True, help="Resume the run in DIR.")
@options.checkpoint_every
@click.option("--data", help="Name or path of the data set.  [default: the record's]")
@click.option("--init", metavar="FILE", help="Weights that the training started from.  [default: the record's]")
@click.option("--teacher", metavar="FILE", help="Weights that the training learned from.  [default: the record's]")
@click.option("--allow-other-data", is_flag=True, help="Train even if the images differ from the record's.")
@options.several(options.recorded_device, options.json)
@click.pass_context
def reproduce(context: click.Context, /, name: str, output: Path | None, as_json: bool, **keywords: Any) -> None:
    """Train weights again from their training record.

    Prints whether the result is bit-identical, has the same score within its 95% interval, or is different, and what
    differs from the record. Exits 1 if different. Ctrl-C writes a checkpoint; --resume continues.
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
        _print(result)
    context.exit(0 if result.succeeded else 1)


def _print(result: "Reproduction") -> None:
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


def _print_interrupted(given: dict[str, Any], output: Path) -> None:
    if not (output / "checkpoint.safetensors").exists():
        return note("Interrupted before the first checkpoint.")
    words = ["zoo", "reproduce", given["name"]]
    for option in ("data", "init", "teacher", "device"):
        words += [f"--{option}", given[option]] if given[option] else []
    words += ["--allow-other-data"] if given["allow_other_data"] else []
    return note(f"Interrupted. Continue with\n  {shlex.join([*words, '-o', str(output), '--resume'])}")
