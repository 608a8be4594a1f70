"""``zoo look invariance``, ``representations``, ``whitening``: networks and data compared."""

from typing import Any

import click

from zoo.cli import options
from zoo.cli.output import show_progress
from zoo_look.cli.options import Answer, limit_option, look_command


@look_command(
    "zoo look invariance resnet20.digits --data digits",
    options.names,
    options.required_data,
    options.split,
    click.option(
        "--transform", "chosen", multiple=True, metavar="NAME[=VALUES]",
        help="Transformation to try, such as rotation=0,45,90. Repeatable.  [default: all]",
    ),
    options.choice("--edges", values=["reflection", "zeros", "border", "circular"], help="Pixels beyond the edges."),
    limit_option,
    options.device,
)  # fmt: skip
def invariance(names: tuple[str, ...], data: str, split: str, chosen: tuple[str, ...], **keywords: Any) -> Answer:
    """Measure scores and features as images are transformed.

    Several networks are compared in one figure. Transformations: translation, rotation, scale, shear, brightness,
    contrast, blur, jpeg.
    """
    import zoo_look as look

    strengths = dict(map(_read_strengths, chosen)) or None
    with show_progress("invariance") as progress:
        found = look.invariance(names, data, split, strengths=strengths, progress=progress, **keywords)
    points = [
        {
            "weights": point.model,
            "transformation": point.transformation,
            "strength": point.strength,
            "top-1": f"{point.top1:.2f}",
            "95% interval": f"{point.interval[0]:.2f} to {point.interval[1]:.2f}",
            "similarity": f"{point.similarity:.3f}",
        }
        for point in found.points
    ]
    return found, {"data": found.data, "images": found.fingerprint, "edges": found.edges, "points": points}


@look_command(
    "zoo look representations resnet20.c10 plain20.c10 --data cifar10",
    click.argument("first", shell_complete=options.complete_name),
    click.argument("second", shell_complete=options.complete_name),
    options.required_data,
    options.split,
    click.option(
        "--layers", "layers_of", multiple=True, metavar="PATTERN",
        help="Layers to compare, such as 'layer*'. Repeatable.  [default: the default layers]",
    ),
    limit_option,
    options.device,
)  # fmt: skip
def representations(first: str, second: str, data: str, split: str, **keywords: Any) -> Answer:
    """Compare two networks' layers by centred kernel alignment."""
    import zoo_look as look

    with show_progress("representations") as progress:
        found = look.representations(first, second, data, split, progress=progress, **keywords)
    table = [
        {"layer": name, **{column: f"{value:.2f}" for column, value in zip(found.layers[1], row, strict=True)}}
        for name, row in zip(found.layers[0], found.cka.tolist(), strict=True)
    ]
    return found, {"images": found.n, "cka": table}


@look_command(
    "zoo look whitening --data cifar10 --split train -o whitening.png",
    options.required_data,
    options.split,
    click.option(
        "--eps", default=1e-3, show_default=True, type=click.FloatRange(min=0, min_open=True),
        help="Variance added to each component.",
    ),
    limit_option,
)  # fmt: skip
def whitening(data: str, split: str, eps: float, limit: int) -> Answer:
    """Show images before and after whitening.

    The mean and the whitening are fitted to the first images of the split.
    """
    import zoo_look as look

    found = look.whitening(data, split, eps=eps, limit=limit)
    return found, found.facts()


def _read_strengths(text: str) -> tuple[str, tuple[float, ...]]:
    from zoo_look.transforms import STRENGTHS

    name, equals, values = text.partition("=")
    try:
        return name, tuple(float(value) for value in values.split(",")) if equals else STRENGTHS.get(name, (0.0,))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not NAME=NUMBER,NUMBER,... such as rotation=0,45,90.") from None
