"""``zoo look layers``, ``filters``, ``diagnose``, ``features``."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.look.options import look_options, present
from zoo.cli.options import args_option, complete_name, json_option, read_args
from zoo.cli.output import only_answers, print_json, print_table

if TYPE_CHECKING:
    from zoo.look.maps import FeatureMaps


@click.command()
@click.argument("name", shell_complete=complete_name)
@args_option
@json_option
def layers(name: str, args: dict[str, str], as_json: bool) -> None:
    """List a network's layers, with the shapes that they put out.

    NAME without a tag is built as it is, without weights.
    """
    from zoo import look as looking
    from zoo.creation import create

    with only_answers():
        found = looking.layers(create(name, **read_args(args)))
    if as_json:
        return print_json(found)
    rows = [
        (layer.name, layer.kind, " x ".join(map(str, layer.shape)), f"{layer.calls}" if layer.calls > 1 else "")
        for layer in found
    ]
    return print_table(("layer", "kind", "output", "runs"), rows, right=("output", "runs"))


@click.command()
@look_options
@click.option("--scale", type=click.Choice(["each", "shared"]), default="each", show_default=True)
def filters(open_model: Callable[[], Any], scale: Any, **shown: Any) -> None:
    """Show the first layer's filters beside the nearest Gabor filters."""
    from zoo import look as looking

    with only_answers():
        found = looking.filters(open_model(), scaling=scale)
    facts = [("filters", f"{len(found.weight)} of {' x '.join(map(str, found.weight.shape[1:]))}")]
    if found.nearest is None or found.noise is None:
        facts.append(("nearest Gabor filters", "none: kernels below 5 x 5 are fitted by nearly any"))
        return present(found, facts, **shown)
    error, noise = float(found.nearest.error.median()), float(found.noise.median())
    facts += [
        ("left by the nearest Gabor filter", f"{error:.2f} of the norm, median; of filters of noise {noise:.2f}"),
        ("wave directions, 22.5 degrees each", " ".join(map(str, found.orientations().tolist()))),
    ]
    return present(found, facts, **shown)


@click.command()
@look_options
def diagnose(open_model: Callable[[], Any], **shown: Any) -> None:
    """Measure a first layer's frequencies, aliasing and dead filters."""
    from zoo import look as looking

    with only_answers():
        found = looking.diagnose(open_model())
    numbers = found.facts()
    facts = [
        *((band, f"{numbers[band]:.0%} of the energy") for band in ("low", "middle", "high", "aliased")),
        ("dead", f"{numbers['dead']} of {numbers['filters']}"),
    ]
    present(found, facts, **shown)


@click.command()
@look_options
@click.option("--layer", required=True, help="As zoo look layers names it.")
@click.option("--image", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="An image file.")
@click.option("--data", help="A data set, in place of an image.")
@click.option("--split", default="test", show_default=True)
@click.option(
    "--index", "indices", multiple=True, default=(0,), show_default="0", type=click.IntRange(min=0),
    help="Which of its images. Several, of a layer that puts out images: each above what becomes of it.",
)  # fmt: skip
def features(
    open_model: Callable[[], Any],
    layer: str,
    image: Path | None,
    data: str | None,
    split: str,
    indices: tuple[int, ...],
    **shown: Any,
) -> None:
    """Show what a layer makes of an image."""
    from zoo import look as looking
    from zoo.cli.look.options import pick_image

    with only_answers():
        if len(indices) > 1:
            if image is not None:
                raise click.UsageError("Several --index take --data DATA, not --image FILE.")
            pictures = [pick_image(image, data, split, index) for index in indices]
            pairs = looking.before_and_after(open_model(), pictures, layer)
            changes = ", ".join(f"{change:.3f}" for change in pairs.facts()["changes"])
            return present(pairs, [("mean change of a pixel", changes)], **shown)
        found: FeatureMaps = looking.features(open_model(), pick_image(image, data, split, indices[0]), layer)
    numbers = found.facts()
    facts = [
        ("maps", " x ".join(map(str, numbers["shape"]))),
        ("strongest", ", ".join(map(str, found.strongest(8)))),
        ("silent", f"{numbers['silent']} channels"),
    ]
    return present(found, facts, **shown)
