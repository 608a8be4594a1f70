"""``zoo look``: what a network has learned, drawn, told and kept."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.group import Commands
from zoo.cli.looking import look_options, present
from zoo.cli.options import args_option, complete_name, device_option, json_option, read_args
from zoo.cli.output import only_answers, print_json, print_table, show_progress

if TYPE_CHECKING:
    from zoo.look.maps import FeatureMaps

_HOMES = {
    "layers": "zoo.cli.look:layers",
    "filters": "zoo.cli.look:filters",
    "diagnose": "zoo.cli.look:diagnose",
    "features": "zoo.cli.look:features",
    "deconv": "zoo.cli.look_units:deconv",
    "patches": "zoo.cli.look_units:patches",
    "maximize": "zoo.cli.look_units:maximize",
    "attribute": "zoo.cli.look_units:attribute",
    "invariance": "zoo.cli.look:invariance",
    "representations": "zoo.cli.look:representations",
    "whitening": "zoo.cli.look:whitening",
}


@click.group(cls=Commands, homes=_HOMES)
def look() -> None:
    """Look inside networks.

    Each command prints what was found; -o keeps it: drawn (.png, .svg, .pdf), facts (.json), tensors (.safetensors).
    """


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
    from zoo.cli.looking import pick_image

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
