"""``zoo publish``: a run, or a file of weights, to a release on a hub."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.cli.options import json_option
from zoo.cli.output import echo, note, only_answers, print_json, show_progress, size
from zoo.manifest import License

if TYPE_CHECKING:
    from zoo.publishing import Publication


def _check_license(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not (equals and value and key in License.__struct_fields__):
            raise click.BadParameter(f"{text!r} is not weights=..., data=... or code=...: such as weights=Apache-2.0.")
        pairs[key] = value
    return pairs


@click.command()
@click.argument("source", metavar="RUN|FILE", type=click.Path(exists=True, path_type=Path))
@click.option("--as", "name", required=True, metavar="ARCH.TAG", help="The name that the weights get.")
@click.option(
    "--to", required=True, metavar="HUB", help="A directory, s3://..., hf://OWNER/REPO, embedded:PACKAGE/FOLDER."
)
@click.option("--evaluate", "data", multiple=True, metavar="DATA", help="Score them on this data set now.")
@click.option("--split", default="test", show_default=True, help="The split that --evaluate scores.")
@click.option(
    "--license",
    "--licence",
    "license",
    multiple=True,
    metavar="OF=LICENCE",
    callback=_check_license,
    help="weights=Apache-2.0, data=..., code=...",
)
@click.option(
    "--dtype",
    type=click.Choice(["float16", "bfloat16"]),
    help="Store tensors of more than one dimension in half precision.",
)
@click.option("--manifest", type=click.Path(dir_okay=False, path_type=Path), help="Write the entry into this manifest.")
@click.option("--private", is_flag=True, help="A repository that is made for it is private.")
@click.option("--dry-run", is_flag=True, help="Show every file and the card; write nothing, ask nobody.")
@json_option
def publish(
    source: Path,
    name: str,
    to: str,
    data: tuple[str, ...],
    split: str,
    license: dict[str, str],
    dtype: str | None,
    manifest: Path | None,
    private: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish trained weights on a hub, with their card, scores, probe and record.

    Prints the entry for a manifest, pinned to the bytes and the commit. Weights that lie there under
    that name are never overwritten.
    """
    from zoo.publishing import publish as run

    with only_answers(), show_progress(f"evaluating {name}") as progress:
        done = run(
            source,
            name,
            to,
            evaluate_on=tuple((each, split) for each in data),
            license=license,
            dtype=dtype,
            private=private,
            manifest_file=manifest,
            is_dry_run=dry_run,
            progress=progress,
        )
    if as_json:
        return print_json(done)
    return _print(done, manifest)


def _print(done: "Publication", manifest: Path | None) -> None:
    for remark in done.notes:
        note(remark)
    if done.is_dry_run:
        note(f"Nothing was written. To {done.to} would go:")
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
