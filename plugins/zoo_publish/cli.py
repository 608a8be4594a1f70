"""``zoo publish``: releases a run or a file of weights on a hub."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli import options
from zoo.cli.output import echo, note, print_json, show_progress, size, stdout_to_stderr
from zoo.manifest import License

if TYPE_CHECKING:
    from zoo_publish.publication import Publication


def _check_license(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not (equals and value and key in License.__struct_fields__):
            raise click.BadParameter(
                f"{text!r} is not PART=LICENCE, with the part weights, data or code: weights=Apache-2.0."
            )
        pairs[key] = value
    return pairs


@click.command(epilog="Example: zoo publish run --as resnet20.mine --to ./hub --dry-run")
@click.argument("source", metavar="RUN|RUNS|FILE", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--as", "name", metavar="ARCH.TAG",
    help="Name of the weights.  [default: the model of a run, and the name of its folder]",
)  # fmt: skip
@click.option(
    "--to", required=True, metavar="HUB",
    help="A directory, s3://BUCKET, hf://OWNER/REPO, embedded:PACKAGE/FOLDER, or wheel[:DIR] for a package index "
    "(DIR is dist).",
)  # fmt: skip
@click.option(
    "--evaluate", "data", multiple=True, metavar="DATA", help="Score the weights on this data set. Repeatable."
)
@options.split
@click.option(
    "--license", "--licence", "license", multiple=True, metavar="PART=LICENCE", callback=_check_license,
    help="Licence of the weights, data or code: weights=Apache-2.0. Repeatable.",
)  # fmt: skip
@click.option("--dtype", type=click.Choice(["float16", "bfloat16"]), help="Store matrices in half precision.")
@click.option("--manifest", type=options.NEW_FILE, help="Write the entry into this manifest.")
@click.option("--version", metavar="NUMBER", help="Release of the wheel.  [default: 1.0]")
@click.option(
    "--allow-uncommitted", is_flag=True,
    help="Publish a run without command or commit, or of uncommitted code; its card says so.",
)  # fmt: skip
@click.option("--outputs", type=options.NEW_FOLDER, metavar="DIR", help="Store the outputs of --evaluate in DIR.")
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option("--dry-run", is_flag=True, help="Show the files and the card; write nothing, connect to nothing.")
@options.json
def publish(
    source: Path,
    name: str | None,
    to: str,
    data: tuple[str, ...],
    split: str,
    manifest: Path | None,
    dry_run: bool,
    as_json: bool,
    **keywords: Any,
) -> None:
    """Publish trained weights on a hub, or as a wheel.

    Of RUNS, the folder of zoo train --seeds, the median training is published, with the spread of the scores of all.
    Uploads the weights, their model card, scores, probe and training record. Prints the manifest entry, pinned to the
    bytes and the commit. Never overwrites published weights.

    `--to wheel` builds the file of a distribution in the folder dist and prints its path: twine uploads it to a
    package index, and pip install makes the weights known.
    """
    from zoo_publish import publish as run
    from zoo_publish import wheel

    if name is None:
        from zoo_publish.source import default_name

        if not (name := default_name(source)):
            raise click.UsageError("Missing option '--as'. Name these weights: --as ARCH.TAG, such as resnet20.mine.")
        note(f"Name of the weights: {name} (--as)")
    with stdout_to_stderr(), show_progress(f"evaluating {name}") as progress:
        wanted = tuple((each, split) for each in data)
        keywords |= {"evaluate_on": wanted, "manifest_file": manifest, "is_dry_run": dry_run}
        done = run(source, name, to, progress=progress, **keywords)
    if as_json:
        return print_json(done)
    for remark in done.notes:
        note(remark)
    return _print_wheel(done) if wheel.is_wheel(to) else _print(done, manifest)


def _print(done: "Publication", manifest: Path | None) -> None:
    if done.is_dry_run:
        note(f"Nothing was written. These files would go to {done.to}:")
    elif done.is_new:
        note(f"Published on {done.to}{f' at {done.revision}' if done.revision else ''}:")
    else:
        note(f"Nothing to do: {done.to} already holds these bytes{f', at {done.revision}' if done.revision else ''}.")
    for file in done.files if done.is_new else ():
        note(f"  {file.path:20s} {size(file.size):>8s}  sha256 {file.sha256}")
    if done.is_dry_run and done.card:
        echo(done.card)
    if manifest is not None and not done.is_dry_run:
        note(f"The entry is in {manifest}.")
    echo(done.entry)


def _print_wheel(done: "Publication") -> None:
    if done.is_dry_run:
        note("Nothing was written. The wheel would have these files:")
        for file in done.files:
            note(f"  {size(file.size):>8s}  {file.path}")
        echo(done.card)
    else:
        path = shlex.quote(done.to)
        note("Built. Before others get it, try it as they will:" if done.is_new else "Nothing to do: it is there.")
        note(f"  zoo plugins check {path}\n  twine upload {path}")
    echo(done.to)
