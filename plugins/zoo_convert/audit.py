"""``zoo audit``: the scores of weights with each usual preprocessing."""

from typing import Any

import click

from zoo.cli import options
from zoo.cli.output import echo, print_json, print_table, show_progress, stdout_to_stderr


@click.command(epilog="Example: zoo audit resnet20.digits --data digits")
@options.several(options.name, options.required_data, options.split)
@click.option(
    "--claim", type=click.FloatRange(0, 100), metavar="PERCENT", help="The claimed top-1.  [default: the manifest's]"
)
@click.option("--limit", default=1000, show_default=True, type=options.POSITIVE, help="Images to score on.")
@options.several(options.batch_size(256), options.device, options.json)
@click.pass_context
def audit(context: click.Context, /, name: str, data: str, split: str, as_json: bool, **keywords: Any) -> None:
    """Score weights with each of the usual preprocessings.

    NAME may be a repository (hf-hub:OWNER/NAME). Other crops, interpolations, means and deviations than the manifest's
    are tried once each, on the same images. Exits with 1 if the claimed top-1 lies outside of the 95% interval of the
    manifest's own preprocessing. Of many that are tried, the best is too good by chance: confirm it with all images.
    """
    import msgspec

    from zoo_convert import preprocessings

    with stdout_to_stderr(), show_progress(f"evaluating {name}") as progress:
        found = preprocessings.audit(name, data, split, progress=progress, **keywords)
    if as_json:
        print_json({**msgspec.to_builtins(found), "agrees": found.agrees})
    else:
        claim = f"claimed {found.claimed:.3f}%" if found.claimed is not None else "no claim"
        echo(f"{found.weights} on {found.data}: {len(found.ways)} preprocessings tried, {claim}")
        titles = ("preprocessing", "correct", "top-1", "95% interval")
        rows = [
            (way.words, f"{way.correct:,} of {way.n:,}", f"{way.top1:.2f}%", "{:.2f} to {:.2f}".format(*way.interval))
            for way in found.ways
        ]
        print_table(titles, rows, right=titles[1:])
    context.exit(0 if found.agrees else 1)
