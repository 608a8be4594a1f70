"""``zoo plugins new``: the files of a new plugin."""

from pathlib import Path

import click

from zoo.cli import options
from zoo.cli.output import echo, note, print_json


@click.command(epilog="Example: zoo plugins new hello --fit")
@click.argument("name")
@click.option("--fit", "is_fitted", is_flag=True, help="A model that is fitted in closed form, without gradients.")
@click.option("--command", "is_command", is_flag=True, help="A command and a module in place of a model.")
@options.output("Folder of the new distribution.  [default: zoo_NAME]", kind=options.NEW_FOLDER, required=False)
@options.json
def new(name: str, is_fitted: bool, is_command: bool, output: Path | None, as_json: bool) -> None:
    """Write a complete plugin, ready to be changed.

    A distribution zoo-NAME with a small network, a recipe and an empty manifest, or with --command a command zoo NAME;
    with conformance tests, a README, a licence and a CI workflow. It passes all checks as it is.
    """
    from zoo import scaffold

    if is_fitted and is_command:
        raise click.UsageError("Give --fit or --command, not both: a command has no model.")
    kind: scaffold.Kind = "command" if is_command else "fitted" if is_fitted else "trained"
    folder = output or Path(f"zoo_{name}")
    files = scaffold.write(name, folder, kind=kind)
    words = scaffold.words_of(name, kind=kind)
    if as_json:
        return print_json(
            {"folder": folder, "files": files, "plugin": name, "model": "" if is_command else words["model"]}
        )
    note(f"{folder}: {len(files)} files. Next:")
    last = (
        f"{words['command']} resnet20.digits IMAGE"
        if is_command
        else f"train {words['model']} --data digits -o runs/{name}"
    )
    for command in (f"pip install -e '{folder}[test]'", f"zoo plugins check {name}", f"zoo {last}"):
        echo(f"  {command}")
    return None
