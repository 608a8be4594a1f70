"""``zoo look invariance``, ``representations``, ``whitening``: networks and data compared."""

from pathlib import Path
from typing import Any

import click

from zoo.cli.look.options import present
from zoo.cli.options import complete_name, device_option, json_option
from zoo.cli.output import only_answers, print_table, show_progress


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_name)
@click.option("--data", required=True, help="A data set's name or path.")
@click.option("--split", default="test", show_default=True)
@click.option("--transform", "chosen", multiple=True, metavar="NAME[=VALUE,...]", help="Only these.  [default: all]")
@click.option(
    "--edges", type=click.Choice(["reflection", "zeros", "border", "circular"]), default="reflection", show_default=True
)
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(min=1), help="Images.")
@click.option("-o", "--output", "outputs", multiple=True, type=click.Path(dir_okay=False, path_type=Path))
@device_option
@json_option
def invariance(
    names: tuple[str, ...],
    data: str,
    split: str,
    chosen: tuple[str, ...],
    edges: Any,
    limit: int,
    outputs: tuple[Path, ...],
    device: str | None,
    as_json: bool,
) -> None:
    """Measure scores and features as images are transformed.

    Several networks are compared in one figure. Transformations: translation, rotation, scale, shear, brightness,
    contrast, blur, jpeg; rotation=0,45,90 says which strengths to try.
    """
    from zoo import look as looking

    strengths = dict(map(_read_strengths, chosen)) or None
    with only_answers(), show_progress("invariance") as progress:
        found = looking.invariance(
            names, data, split, strengths=strengths, edges=edges, limit=limit, device=device, progress=progress
        )
    rows = [
        (
            point.model,
            point.transformation,
            f"{point.strength:g}",
            f"{point.top1:.2f}",
            f"{point.interval[0]:.2f} to {point.interval[1]:.2f}",
            f"{point.similarity:.3f}",
        )
        for point in found.points
    ]
    if not as_json:
        right = ("strength", "top-1", "95%", "similarity")
        print_table(("weights", "transformation", *right), rows, right=right)
    present(found, [], outputs=outputs, as_json=as_json)


@click.command()
@click.argument("first", shell_complete=complete_name)
@click.argument("second", shell_complete=complete_name)
@click.option("--data", required=True, help="A data set's name or path.")
@click.option("--split", default="test", show_default=True)
@click.option("--layer", "layers_of", multiple=True, help="A layer or a pattern.  [default: the parts]")
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(min=4), help="Images.")
@click.option("-o", "--output", "outputs", multiple=True, type=click.Path(dir_okay=False, path_type=Path))
@device_option
@json_option
def representations(
    first: str,
    second: str,
    data: str,
    split: str,
    layers_of: tuple[str, ...],
    limit: int,
    outputs: tuple[Path, ...],
    device: str | None,
    as_json: bool,
) -> None:
    """Compare two networks' layers by centred kernel alignment (CKA)."""
    from zoo import look as looking

    with only_answers(), show_progress("representations") as progress:
        found = looking.representations(
            first, second, data, split, layers_of=layers_of, limit=limit, device=device, progress=progress
        )
    if not as_json:
        rows = [
            (name, *(f"{value:.2f}" for value in row))
            for name, row in zip(found.layers[0], found.cka.tolist(), strict=True)
        ]
        print_table((first, *found.layers[1]), rows, right=found.layers[1])
    present(found, [], outputs=outputs, as_json=as_json)


@click.command()
@click.option("--data", required=True, help="A data set's name or path.")
@click.option("--split", default="train", show_default=True)
@click.option("--eps", default=1e-3, show_default=True, type=click.FloatRange(min=0, min_open=True), help="A variance.")
@click.option("--limit", default=5000, show_default=True, type=click.IntRange(min=2), help="Images to fit to.")
@click.option("-o", "--output", "outputs", multiple=True, type=click.Path(dir_okay=False, path_type=Path))
@json_option
def whitening(data: str, split: str, eps: float, limit: int, outputs: tuple[Path, ...], as_json: bool) -> None:
    """Show images before and after mean subtraction and whitening."""
    from zoo import look as looking

    with only_answers():
        found = looking.whitening(data, split, eps=eps, limit=limit)
    numbers = found.facts()
    facts = [
        (name, f"mean {numbers[name]['mean']:.4f}, std {numbers[name]['std']:.4f}") for name in ("centred", "whitened")
    ]
    present(found, facts, outputs=outputs, as_json=as_json)


def _read_strengths(text: str) -> tuple[str, tuple[float, ...]]:
    from zoo.look.transforms import STRENGTHS

    name, equals, values = text.partition("=")
    try:
        return name, tuple(float(value) for value in values.split(",")) if equals else STRENGTHS.get(name, (0.0,))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not NAME=NUMBER,NUMBER,... such as rotation=0,45,90.") from None
