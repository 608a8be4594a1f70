"""``zoo plugins new``: the files of a new plugin."""

from pathlib import Path

import click

from zoo.cli import options
from zoo.cli.output import echo, note, print_json


@click.command(epilog="Example: zoo plugins new hello --fit")
@click.argument("name")
@click.option("--fit", "is_fitted", is_flag=True, help="A model that is fitted in closed form, without gradients.")
@click.option("--command", "is_command", is_flag=True, help="A command and a module in place of a model.")
@click.option("--weights", "is_weights", is_flag=True, help="Weights and key maps for models of others, and no code.")
@options.output("Folder of the new distribution.  [default: zoo_NAME]", kind=options.NEW_FOLDER, required=False)
@options.json
def new(name: str, is_fitted: bool, is_command: bool, is_weights: bool, output: Path | None, as_json: bool) -> None:
    """Write a complete plugin, ready to be changed.

    A distribution zoo-NAME with a small network, a recipe and an empty manifest, with --command a command zoo NAME,
    or with --weights an empty manifest alone, for weights of models that other distributions have;
    with conformance tests, a README, a licence and a CI workflow. It passes all checks as it is.
    """
    from zoo import scaffold

    if is_fitted + is_command + is_weights > 1:
        raise click.UsageError("Give one of --fit, --command and --weights: a command and weights have no model.")
    kind: scaffold.Kind = "trained"
    if is_fitted or is_command or is_weights:
        kind = "fitted" if is_fitted else "command" if is_command else "weights"
    folder = output or Path(f"zoo_{name}")
    files = scaffold.write(name, folder, kind=kind)
    words = scaffold.words_of(name, kind=kind)
    if as_json:
        return print_json(
            {
                "folder": folder,
                "files": files,
                "plugin": name,
                "model": "" if is_command or is_weights else words["model"],
            }
        )
    note(f"{folder}: {len(files)} files. Next:")
    check, manifest = f"zoo plugins check {name}", folder / words["package"] / "manifest.toml"
    to = f"--to embedded:{words['package']}/weights --manifest '{manifest}'"
    steps = {
        "trained": (check, f"zoo train {words['model']} --data digits -o runs/{name}"),
        "command": (check, f"zoo {words['command']} resnet20.digits IMAGE"),
        "weights": (f"zoo publish FILE --as resnet20.{name} {to}", check),
    }
    for command in (f"pip install -e '{folder}[test]'", *steps.get(kind, steps["trained"])):
        echo(f"  {command}")
    return None
