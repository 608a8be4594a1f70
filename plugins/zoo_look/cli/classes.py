"""``zoo look confusion``: which classes a network confuses."""

from pathlib import Path

import click

from zoo.cli import options
from zoo_look.cli.options import Answer, limit_option, look_command, model_options, open_model


@look_command(
    "zoo look confusion resnet20.digits --limit 360",
    *model_options,
    options.data,
    options.split,
    limit_option,
    click.option("--examples", default=0, show_default=True, type=click.IntRange(0, 20), metavar="N",
                 help="Add N images of each of these pairs to the JSON."),
)  # fmt: skip
def confusion(
    name: str,
    data: str | None,
    split: str,
    limit: int,
    examples: int,
    weights: Path | None,
    args: dict[str, str],
    device: str | None,
) -> Answer:
    """Count images by true and predicted class.

    Prints the ten pairs of classes that are confused most.
    """
    import zoo_look as look

    found = look.confusion(open_model(name, weights, args, device), data, split, limit=limit, examples=examples)
    pairs = [
        {"true": pair.true, "predicted": pair.predicted, "images": f"{pair.images:,} of {pair.n:,}"}
        for pair in found.pairs[:10]
    ]
    return found, {"images": found.fingerprint, "confused": pairs or "no classes"}
