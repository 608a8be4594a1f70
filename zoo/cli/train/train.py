"""``zoo train``."""

import json
import shlex
from pathlib import Path
from typing import Any

import click

from zoo.cli.options import args_option, check_pairs, complete_name, json_option, read_args, training_device_option
from zoo.cli.output import echo, note, only_answers, print_json
from zoo.errors import StorageError
from zoo.system import distributed


@click.command()
@click.argument("model", required=False, shell_complete=complete_name)
@click.option("--data", help="A data set's name or path; required, except with --resume.")
@click.option("--recipe", help="One of the family's recipes.  [default: its first for MODEL and the data]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", callback=check_pairs, help="Change a field.")
@args_option
@click.option("--init", metavar="NAME.TAG|FILE", help="Trained weights to start from; they name MODEL too.")
@click.option("--freeze", multiple=True, metavar="PART", help="Keep a submodule as it is; backbone: all but the head.")
@click.option(
    "--adversarial",
    type=click.Choice(["fgsm", "pgd", "pgd_l2"]),
    help="Learn from attacked images: adversarial.attack.",
)
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Run directory.")
@click.option("--resume", is_flag=True, help="Go on with the run in -o DIR; --set epochs=N makes it longer.")
@click.option("--checkpoint-every", type=click.IntRange(min=1), metavar="STEPS", help="Besides once an epoch.")
@click.option("--stop-after", type=click.IntRange(min=1), metavar="EPOCHS", help="Pause there, ready to be resumed.")
@training_device_option
@json_option
@click.pass_context
def train(
    context: click.Context,
    model: str | None,
    data: str | None,
    recipe: str | None,
    settings: dict[str, Any],
    args: dict[str, Any],
    init: str | None,
    freeze: tuple[str, ...],
    adversarial: str | None,
    output: Path,
    resume: bool,
    checkpoint_every: int | None,
    stop_after: int | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Train a model.

    The run's log, checkpoint and weights go to a directory; Ctrl-C loses nothing, --resume goes on.
    """
    from zoo.training import by_name

    if not resume:
        model = model or _architecture(context, init)
        if data is None:
            raise click.MissingParameter(ctx=context, param_type="option", param_hint="'--data'")
    if freeze:
        if "freeze" in settings:
            raise click.UsageError("--freeze and --set freeze=... both say what to freeze: give one of them.")
        settings = {**settings, "freeze": freeze}
    if adversarial:
        settings = {"adversarial.attack": adversarial, **settings}
    options: dict[str, Any] = {"init": init, "recipe": recipe, "settings": settings, "resume": resume, "device": device}
    options |= {"checkpoint_every": checkpoint_every or 0, "stop_after": stop_after}
    try:
        with only_answers():
            by_name.train(model, data, args=read_args(args), output=output, **options)
    except KeyboardInterrupt:
        _tell_interrupted(context.params)
        context.exit(130)
    except StorageError as error:
        if (output / "config.json").exists():
            error.hint += f" Then go on with\n  {_resume_command(context.params)}"
        raise
    weights = output / "model.safetensors"
    last, (model, data) = _last_row(output), _asked(output, model, data)
    if as_json:
        finished = weights if weights.exists() else None
        return print_json({"model": model, "data": data, "output": output, "weights": finished, "last": last})
    if weights.exists():
        echo(weights)
        note(_how_to_score(model, data, weights))
    else:
        note(f"Paused after epoch {last.get('epoch', 0)}. Go on with\n  {_resume_command(context.params)}")
    return None


def _architecture(context: click.Context, init: str | None) -> str:
    """The architecture of the weights ``init``."""
    if init is None:
        raise click.MissingParameter(ctx=context, param_type="argument", param_hint="'MODEL'")
    from zoo.training import finetune

    return finetune.architecture(init)


def _tell_interrupted(given: dict[str, Any]) -> None:
    checkpoint = given["output"] / "checkpoint.safetensors"
    if checkpoint.exists():
        how = "go on, by any launcher or none, with" if distributed.current().count > 1 else "go on with"
        note(f"Interrupted. The checkpoint is {checkpoint}; {how}\n  {_resume_command(given)}")
    else:
        note("Interrupted before there was anything to keep.")


def _resume_command(given: dict[str, Any]) -> str:
    words = ["zoo", "train", "--resume", "-o", str(given["output"])]
    words += ["--device", given["device"]] if given["device"] else []
    words += ["--checkpoint-every", str(given["checkpoint_every"])] if given["checkpoint_every"] else []
    return shlex.join(words)


def _asked(output: Path, model: str | None, data: str | None) -> tuple[str, str]:
    """Model and data of the run, also where it was only resumed."""
    if model is not None and data is not None:
        return model, data
    config = json.loads((output / "config.json").read_text(encoding="utf-8"))
    source = config.get("source", {}).get("data") or config["data"]["train"]["name"]
    return model or config["model"], data or source


def _how_to_score(model: str, data: str, weights: Path) -> str:
    """What to type for a score on images that the network was not trained on."""
    from zoo.data import splits

    words = ["zoo", "evaluate", model, "--data", data]
    known = [split for split in splits(data) if split != "train"]
    split = "test" if "test" in known else known[0] if known else None
    if split is None:
        command = shlex.join(["zoo", "evaluate", model, "--weights", str(weights)])
        return f"Score it on images that it was not trained on: {command} --data DATA --split SPLIT"
    words += ["--split", split] if split != "test" else []
    return f"Score it: {shlex.join([*words, '--weights', str(weights)])}"


def _last_row(output: Path) -> dict[str, Any]:
    """The last row of the run's log, {} where there is none."""
    log = output / "log.jsonl"
    rows = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return dict(json.loads(rows[-1])) if rows else {}
