"""``zoo plugins new``: the files of a new plugin."""

from pathlib import Path

import click

from zoo.cli import options
from zoo.cli.output import echo, note, print_json


@click.command(epilog="Example: zoo plugins new hello --fit")
@click.argument("name")
@click.option("--fit", "is_fitted", is_flag=True, help="A model that is fitted in closed form, without gradients.")
@options.output("Folder of the new distribution.  [default: zoo_NAME]", kind=options.NEW_FOLDER, required=False)
@options.json
def new(name: str, is_fitted: bool, output: Path | None, as_json: bool) -> None:
    """Write a complete plugin, ready to be changed.

    A distribution zoo-NAME with a small network, a recipe, an empty manifest, conformance tests, a README, a licence
    and a CI workflow. It passes all checks as it is.
    """
    from zoo import scaffold

    folder = output or Path(f"zoo_{name}")
    files = scaffold.write(name, folder, is_fitted=is_fitted)
    words = scaffold.words_of(name, is_fitted=is_fitted)
    if as_json:
        return print_json({"folder": folder, "files": files, "plugin": name, "model": words["model"]})
    note(f"{folder}: {len(files)} files. Next:")
    for command in (
        f"pip install -e '{folder}[test]'",
        f"zoo plugins check {name}",
        f"zoo train {words['model']} --data digits -o runs/{name}",
    ):
        echo(f"  {command}")
    return None
