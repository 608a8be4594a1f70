"""``zoo train``."""

import json
import shlex
from pathlib import Path
from typing import Any

import click

from zoo.cli import options
from zoo.cli.output import echo, note, print_json, stdout_to_stderr
from zoo.cli.train import mistakes
from zoo.errors import StorageError
from zoo.system import distributed


@click.command(epilog="Example: zoo train resnet20 --data digits --set epochs=2 -o run")
@click.argument("model", required=False, shell_complete=options.complete_name)
@click.option("--data", help="Name or path of a data set; required except with --resume.")
@click.option("--recipe", help="Recipe of the family.  [default: its first for MODEL and the data]")
@options.pairs("--set", "settings", help="Change a field of the recipe. Repeatable.")
@options.args
@click.option("--init", metavar="NAME.TAG|FILE", help="Start from these weights; MODEL may be left out.")
@click.option("--teacher", metavar="NAME.TAG|FILE", help="Learn from these weights too, as distill.* says.")
@click.option("--freeze", multiple=True, metavar="PART", help="Submodule to freeze; backbone is all but the head.")
@click.option(
    "--adversarial", type=click.Choice(["fgsm", "pgd", "pgd_l2"]), help="Train on attacked images: adversarial.attack."
)
@options.output("Write the run to DIR.", options.NEW_FOLDER)
@click.option("--resume", is_flag=True, help="Resume the run in DIR; --set epochs=N makes it longer.")
@options.checkpoint_every
@click.option("--stop-after", type=options.POSITIVE, metavar="EPOCHS", help="Pause after this epoch, ready to resume.")
@options.several(options.training_device, options.json)
@click.pass_context
def train(
    context: click.Context,
    /,
    model: str | None,
    data: str | None,
    settings: dict[str, Any],
    args: dict[str, Any],
    init: str | None,
    freeze: tuple[str, ...],
    adversarial: str | None,
    output: Path,
    resume: bool,
    as_json: bool,
    **keywords: Any,
) -> None:
    """Train a model.

    Writes the log, checkpoint and weights to a directory. Ctrl-C writes a checkpoint; --resume continues.
    """
    from zoo.training import by_name

    if not resume:
        model = model or _architecture(context, init)
        if data is None:
            raise click.MissingParameter(ctx=context, param_type="option", param_hint="'--data'")
    if freeze:
        if "freeze" in settings:
            raise click.UsageError("--freeze and --set freeze=... exclude each other.")
        settings = {**settings, "freeze": freeze}
    if adversarial:
        settings = {"adversarial.attack": adversarial, **settings}
    keywords |= {"init": init, "settings": settings, "resume": resume}
    try:
        with stdout_to_stderr():
            by_name.train(model, data, args=options.read_args(args), output=output, **keywords)
    except KeyboardInterrupt:
        _print_interrupted(context.params)
        context.exit(130)
    except StorageError as error:
        if (output / "config.json").exists():
            error.hint += f" Then continue with\n  {_resume_command(context.params)}"
        raise
    weights = output / "model.safetensors"
    last, (model, data) = _last_row(output), _asked(output, model, data)
    if as_json:
        finished = weights if weights.exists() else None
        return print_json({"model": model, "data": data, "output": output, "weights": finished, "last": last})
    if weights.exists():
        echo(weights)
        mistakes.show(output)
        note(_how_to_score(model, data, weights))
    else:
        note(f"Paused after epoch {last.get('epoch', 0)}. Continue with\n  {_resume_command(context.params)}")
    return None


def _architecture(context: click.Context, init: str | None) -> str:
    """The architecture of the weights ``init``."""
    if init is None:
        raise click.MissingParameter(ctx=context, param_type="argument", param_hint="'MODEL'")
    from zoo.training import pretrained

    return pretrained.architecture(init)


def _print_interrupted(given: dict[str, Any]) -> None:
    checkpoint = given["output"] / "checkpoint.safetensors"
    if checkpoint.exists():
        how = "continue, with or without a launcher, with" if distributed.current().count > 1 else "continue with"
        note(f"Interrupted. The checkpoint is {checkpoint}; {how}\n  {_resume_command(given)}")
    else:
        note("Interrupted before the first checkpoint.")


def _resume_command(given: dict[str, Any]) -> str:
    words = ["zoo", "train", "--resume", "-o", str(given["output"])]
    words += ["--device", given["device"]] if given["device"] else []
    words += ["--checkpoint-every", str(given["checkpoint_every"])] if given["checkpoint_every"] else []
    return shlex.join(words)


def _asked(output: Path, model: str | None, data: str | None) -> tuple[str, str]:
    """Model and data of the run, also if it was only resumed."""
    if model is not None and data is not None:
        return model, data
    config = json.loads((output / "config.json").read_text(encoding="utf-8"))
    source = config.get("source", {}).get("data") or config["data"]["train"]["name"]
    return model or config["model"], data or source


def _how_to_score(model: str, data: str, weights: Path) -> str:
    """The command that scores the weights on images that they were not trained on."""
    from zoo.data import splits

    words = ["zoo", "evaluate", model, "--data", data]
    known = [split for split in splits(data) if split != "train"]
    split = "test" if "test" in known else known[0] if known else None
    if split is None:
        command = shlex.join(["zoo", "evaluate", model, "--weights", str(weights)])
        return f"Score it on images it was not trained on: {command} --data DATA --split SPLIT"
    words += ["--split", split] if split != "test" else []
    return f"Score it: {shlex.join([*words, '--weights', str(weights)])}"


def _last_row(output: Path) -> dict[str, Any]:
    """The last row of the run's log, or {}."""
    log = output / "log.jsonl"
    rows = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return dict(json.loads(rows[-1])) if rows else {}
