"""``zoo train``."""

import json
import shlex
from pathlib import Path
from typing import Any

import click

from zoo.cli.options import complete_name, device_option, json_option
from zoo.cli.output import note, only_answers, print_json


def check_settings(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """``key=value`` pairs; the recipe says which keys there are."""
    settings = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise click.BadParameter(f"{text!r} is not KEY=VALUE, such as lr=0.05 or augment.flip=true.")
        settings[key.strip()] = value.strip()
    return settings


@click.command()
@click.argument("model", shell_complete=complete_name)
@click.option("--data", required=True, help="A data set's name or path.")
@click.option("--recipe", help="One of the family's recipes.  [default: its first for MODEL and the data]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", callback=check_settings, help="Change a field.")
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Run directory.")
@click.option("--resume", is_flag=True, help="Go on with the run that the directory holds.")
@click.option("--stop-after", type=click.IntRange(min=1), metavar="EPOCHS", help="Pause there, ready to be resumed.")
@device_option
@json_option
@click.pass_context
def train(
    context: click.Context,
    model: str,
    data: str,
    recipe: str | None,
    settings: dict[str, str],
    output: Path,
    resume: bool,
    stop_after: int | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Train a model.

    The run's log, checkpoint and weights go to a directory; Ctrl-C loses nothing, --resume goes on.
    """
    from zoo import hooks

    options: dict[str, Any] = {"recipe": recipe, "settings": settings, "resume": resume, "device": device}
    try:
        with only_answers():
            hooks.train(model, data, output=output, stop_after=stop_after, **options)
    except KeyboardInterrupt:
        _tell_interrupted(context.params)
        context.exit(130)
    weights = output / "model.safetensors"
    last = _last_row(output)
    if as_json:
        finished = weights if weights.exists() else None
        return print_json({"model": model, "data": data, "output": output, "weights": finished, "last": last})
    if weights.exists():
        click.echo(weights)
        note(f"Score it: {shlex.join(['zoo', 'evaluate', model, '--data', data, '--weights', str(weights)])}")
    else:
        note(f"Paused after epoch {last.get('epoch', 0)}. Go on with\n  {_resume_command(context.params)}")
    return None


def _tell_interrupted(given: dict[str, Any]) -> None:
    checkpoint = given["output"] / "checkpoint.safetensors"
    if checkpoint.exists():
        note(f"Interrupted. The checkpoint is {checkpoint}; go on with\n  {_resume_command(given)}")
    else:
        note("Interrupted before there was anything to keep.")


def _resume_command(given: dict[str, Any]) -> str:
    words = ["zoo", "train", given["model"], "--data", given["data"]]
    words += ["--recipe", given["recipe"]] if given["recipe"] else []
    for key, value in given["settings"].items():
        words += ["--set", f"{key}={value}"]
    words += ["--device", given["device"]] if given["device"] else []
    return shlex.join([*words, "-o", str(given["output"]), "--resume"])


def _last_row(output: Path) -> dict[str, Any]:
    """The last row of the run's log, {} where there is none."""
    log = output / "log.jsonl"
    rows = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return dict(json.loads(rows[-1])) if rows else {}
