"""``zoo reproduce``."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.options import complete_name, json_option, recorded_device_option
from zoo.cli.output import echo, note, only_answers, print_facts, print_json

if TYPE_CHECKING:
    from zoo.training.reproduction import Reproduction

_SAID = {
    "file": "bit-identical, the same file",
    "tensors": "bit-identical tensors; the file around them is another",
    "score": "the same score within the interval, other bits",
    "different": "different",
}


@click.command()
@click.argument("name", metavar="NAME.TAG|DIR|FILE", shell_complete=complete_name)
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="[default: reproduced/NAME.TAG]")
@click.option("--resume", is_flag=True, help="Go on with the run that the directory holds.")
@click.option("--checkpoint-every", type=click.IntRange(min=1), metavar="STEPS", help="Besides once an epoch.")
@click.option("--data", help="Where the images lie, if not where the record's name leads.")
@click.option("--init", metavar="FILE", help="Where the weights lie that it started from.")
@click.option("--allow-other-data", is_flag=True, help="Go on where the images are not those of the record.")
@recorded_device_option
@json_option
@click.pass_context
def reproduce(
    context: click.Context,
    name: str,
    output: Path | None,
    resume: bool,
    checkpoint_every: int | None,
    data: str | None,
    init: str | None,
    allow_other_data: bool,
    device: str | None,
    as_json: bool,
) -> None:
    """Train weights again from the record of their training.

    Says which holds: the same file to the bit, the same score within its 95% interval, or different;
    then with what was not the same. Exit code 1 for different. Ctrl-C loses nothing, --resume goes on.
    """
    from zoo.training import reproduction

    output = output or Path("reproduced", Path(name).absolute().name.removesuffix(".safetensors"))
    options: dict[str, Any] = {"data": data, "init": init, "allow_other_data": allow_other_data, "device": device}
    options["checkpoint_every"] = checkpoint_every or 0
    try:
        with only_answers():
            result = reproduction.reproduce(name, output=output, resume=resume, **options)
    except KeyboardInterrupt:
        _tell_interrupted(context.params, output)
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
        echo("what was not the same:")
        print_facts(
            [(row.what, f"{row.then or 'not recorded'}, here {row.now or 'none'}") for row in result.differences]
        )
    else:
        note("All that was recorded is the same: what differs is not, such as the code of Zoo or of the family.")


def _tell_interrupted(given: dict[str, Any], output: Path) -> None:
    if not (output / "checkpoint.safetensors").exists():
        return note("Interrupted before there was anything to keep.")
    words = ["zoo", "reproduce", given["name"]]
    for option in ("data", "init", "device"):
        words += [f"--{option}", given[option]] if given[option] else []
    words += ["--allow-other-data"] if given["allow_other_data"] else []
    return note(f"Interrupted. Go on with\n  {shlex.join([*words, '-o', str(output), '--resume'])}")
