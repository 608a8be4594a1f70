"""``zoo train``: trains a model, and shows what the result gets wrong."""

import csv
import json
import shlex
from pathlib import Path
from typing import Any

import click

from zoo.cli import options
from zoo.cli.output import echo, note, one_line, print_json, stdout_to_stderr
from zoo.errors import StorageError
from zoo.system import distributed, storage


class _Train(click.Command):
    """The command; the error for an option that is a field of the recipe, or another program's, says what to type."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        words = [*args]  # click takes them out
        try:
            return super().parse_args(context, args)
        except click.NoSuchOption as error:
            if instead := _instead_of(error.option_name, words):
                raise click.UsageError(f"No such option {error.option_name!r}. Use {instead}.", context) from None
            raise


_FIELDS = {"--bs": "batch_size", "--learning-rate": "lr", "--wd": "weight_decay"}
_OPTIONS = {
    "--checkpoint": "--init FILE, or --resume with -o DIR",
    "--dataset": "--data DATA",
    "--gpu": "--device cuda",
    "--load": "--init NAME.TAG",
    "--model": "MODEL, the first word",
    "--num-classes": "--data DATA: the head has as many classes as the data",
    "--pretrained": "--init NAME.TAG",
    "--weights": "--init NAME.TAG or --init FILE",
}
"""Names of other programs for fields of a recipe, and for options of this command."""


def _instead_of(option: str, words: list[str]) -> str:
    """Returns what to type for ``option``, with the value that it has in ``words``; nothing if that is not known."""
    from zoo.training.recipe import Recipe

    field = _FIELDS.get(option, option.removeprefix("--").replace("-", "_"))
    if field not in Recipe.__struct_fields__ or field in ("name", "note"):
        return _OPTIONS.get(option, "")
    value = "VALUE"
    for word, following in zip(words, [*words[1:], "-"], strict=True):
        name, equals, text = word.partition("=")
        if name == option and (equals or not following.startswith("-")):
            value = text if equals else following
    return f"--set {field}={value}"


@click.command(cls=_Train, epilog="Example: zoo train resnet20 --data digits --set epochs=2 -o run")
@click.argument("model", required=False, shell_complete=options.complete_name, callback=options.refuse_pattern)
@click.option("--data", help="Name or path of a data set; required except with --resume.")
@click.option("--recipe", help="Recipe of the family.  [default: the first that fits MODEL and the data]")
@options.pairs("--set", "settings", help="Change a field of the recipe. Repeatable.")
@options.args
@click.option(
    "--init",
    metavar="NAME.TAG|FILE",
    callback=options.refuse_pattern,
    help="Start from these weights; MODEL may be left out.",
)
@click.option(
    "--teacher",
    metavar="NAME.TAG|FILE",
    callback=options.refuse_pattern,
    help="Also learn from the answers of these weights, as the fields distill.* set.",
)
@click.option("--freeze", multiple=True, metavar="PART", help="Submodule to freeze; backbone is all but the head.")
@click.option(
    "--adversarial",
    type=click.Choice(["fgsm", "pgd", "pgd_l2"]),
    help="Train on images under this attack, the field adversarial.attack.",
)
@options.output("Write the run to DIR.", options.NEW_FOLDER)
@click.option("--resume", is_flag=True, help="Resume the run in DIR; --set epochs=N makes it longer.")
@options.checkpoint_every
@options.keep_epochs
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
        print_mistakes(output, "validation")
        note(_how_to_score(output, data))
    else:
        note(f"Paused after epoch {last.get('epoch', 0)}. Continue with\n  {_resume_command(context.params)}")
    return None


def _architecture(context: click.Context, init: str | None) -> str:
    """Returns the architecture of the weights ``init``."""
    if init is None:
        raise click.MissingParameter(ctx=context, param_type="argument", param_hint="'MODEL'")
    from zoo.training import pretrained

    return pretrained.architecture(init)


def _print_interrupted(parameters: dict[str, Any]) -> None:
    checkpoint = parameters["output"] / "checkpoint.safetensors"
    if checkpoint.exists():
        how = "continue, with or without a launcher, with" if distributed.current().count > 1 else "continue with"
        note(f"Interrupted. The checkpoint is {checkpoint}; {how}\n  {_resume_command(parameters)}")
    else:
        note("Interrupted before the first checkpoint.")


def _resume_command(parameters: dict[str, Any]) -> str:
    words = ["zoo", "train", "--resume", "-o", str(parameters["output"])]
    words += ["--device", parameters["device"]] if parameters["device"] else []
    words += ["--checkpoint-every", str(parameters["checkpoint_every"])] if parameters["checkpoint_every"] else []
    words += ["--keep-epochs", ",".join(map(str, kept))] if (kept := parameters["keep_epochs"]) else []
    return shlex.join(words)


def _asked(output: Path, model: str | None, data: str | None) -> tuple[str, str]:
    """Returns model and data of the run, also if it was only resumed."""
    if model is not None and data is not None:
        return model, data
    config = storage.read_json(output / "config.json")
    source = config.get("source", {}).get("data") or config["data"]["train"]["name"]
    return model or config["model"], data or source


def _how_to_score(output: Path, data: str) -> str:
    """Returns the command that scores the weights on images that they were not trained on."""
    from zoo.data import splits

    words = ["zoo", "evaluate", str(output), "--data", data]
    others = [split for split in splits(data) if split != "train"]
    split = "test" if "test" in others else others[0] if others else None
    if split is None:
        command = shlex.join(["zoo", "evaluate", str(output)])
        return f"Score it on images it was not trained on: {command} --data DATA --split SPLIT"
    words += ["--split", split] if split != "test" else []
    return f"Score it: {shlex.join(words)}"


def _last_row(output: Path) -> dict[str, Any]:
    """Returns the last row of the run's log, or {}."""
    log = output / "log.jsonl"
    rows = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return dict(json.loads(rows[-1])) if rows else {}


MOST_CLASSES = 12
"""A larger confusion matrix is only written: it does not fit on a terminal."""

SHOWN = 5


def print_mistakes(output: Path, split: str) -> None:
    """Prints the confusion matrix and the worst mistakes in the folder ``output``, if it has those of a ``split``."""
    files = [output / "confusion.csv", output / "mistakes.csv"]
    if not all(file.is_file() for file in files):
        return
    (titles, *counts), (_, *wrong) = (_read_table(file) for file in files)
    total = sum(int(number) for _, *row in counts for number in row)
    note(f"{len(wrong)} of {total} {split} images are wrong: {files[0]}, {files[1]}")
    if wrong and len(counts) <= MOST_CLASSES:
        note("Rows are the true classes, columns the predicted ones:")
        _print_columns([["", *titles[1:]], *counts])
    if wrong:
        note("The most confident mistakes:" if wrong[0][3] else "The first mistakes:")
        for file, true, predicted, probability in wrong[:SHOWN]:
            share = f" ({float(probability):.1%})" if probability else ""
            note(one_line(f"  {file}: {true}, predicted {predicted}{share}"))


def _read_table(file: Path) -> list[list[str]]:
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return list(csv.reader(stream))


def _print_columns(rows: list[list[str]]) -> None:
    rows = [[one_line(cell) for cell in row] for row in rows]
    first, *others = ([len(cell) for cell in column] for column in zip(*rows, strict=True))
    for name, *cells in rows:
        columns = (cell.rjust(max(width)) for cell, width in zip(cells, others, strict=True))
        note("  ".join(["", name.ljust(max(first)), *columns]))
