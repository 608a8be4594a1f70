"""``zoo look deconv``, ``maximize``, ``patches``, ``attribute``: what units answer to, and what speaks for a class."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.options import args_option, complete_name, device_option, json_option, read_args
from zoo.cli.output import echo, note, only_answers, print_json, show_progress

if TYPE_CHECKING:
    from torch import nn

    from zoo.look.result import Look

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

_name = click.argument("name", shell_complete=complete_name)
_weights = click.option("--weights", type=_FILE, help="A local safetensors file, in place of NAME's own weights.")
_layer = click.option("--layer", metavar="MODULE", help="Which submodule.  [default: the last default layer]")
_channel = click.option("--channel", "channels", multiple=True, type=click.IntRange(min=0), help="Repeatable.")
_data = click.option("--data", help="A data set's name or path.  [default: the one the weights were trained for]")
_split = click.option("--split", default="train", show_default=True)
_limit = click.option("--limit", type=click.IntRange(min=1), help="Look at the first images only.")
_count = click.option("--count", default=9, show_default=True, type=click.IntRange(min=1), help="Images a channel.")
_units = click.option(
    "--units", default=9, show_default=True, type=click.IntRange(min=1), help="How many channels, without --channel."
)
_image = click.option("--image", type=_FILE, help="An image file.")
_index = click.option("--index", type=click.IntRange(min=0), help="The image of this number in the split.")
_output = click.option(
    "-o", "--output", multiple=True, type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Where to keep the result, by its ending: .png, .svg, .pdf, .json, .safetensors. Repeatable.",
)  # fmt: skip


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:
        for option in reversed((_name, _weights, args_option, *options, _output, device_option, json_option)):
            command = option(command)
        return command

    return decorate


@click.command()
@_options(_layer, _channel, _image, _data, _split, _index, _units, _count, _limit)
def deconv(
    name: str,
    weights: Path | None,
    args: dict[str, str],
    layer: str | None,
    channels: tuple[int, ...],
    image: Path | None,
    data: str | None,
    split: str,
    index: int | None,
    units: int,
    count: int,
    limit: int | None,
    output: tuple[Path, ...],
    device: str | None,
    as_json: bool,
) -> None:
    """Project units back into pixels, as Zeiler and Fergus do.

    Over a data set, the strongest units of each channel beside the patches that they see; with --image or
    --index, one unit for one image. NAME without a tag stands for the model's default weights.
    """
    from zoo import look

    if len(channels) > 1 and (image is not None or index is not None):
        raise click.UsageError("One image is projected for one channel.")
    with only_answers(), show_progress(f"deconv of {name}") as progress:
        network = _network(name, weights, args, device)
        if image is not None or index is not None:
            shown = _input(network, image, data, split, index)
            result: Look = look.project(network, shown, layer, channels[0] if channels else None)
        else:
            result = look.deconv(
                network, layer, data, split, channels=channels or None, units=units, count=count, limit=limit,
                progress=progress,
            )  # fmt: skip
    _give(result, output, as_json)


@click.command()
@_options(_layer, _channel, _data, _split, _units, _count, _limit)
def patches(
    name: str,
    weights: Path | None,
    args: dict[str, str],
    layer: str | None,
    channels: tuple[int, ...],
    data: str | None,
    split: str,
    units: int,
    count: int,
    limit: int | None,
    output: tuple[Path, ...],
    device: str | None,
    as_json: bool,
) -> None:
    """Find the image patches that drive channels most.

    Each is exactly what the unit can see. NAME without a tag stands for the model's default weights.
    """
    from zoo import look

    with only_answers(), show_progress(f"patches of {name}") as progress:
        network = _network(name, weights, args, device)
        result = look.patches(
            network, layer, data, split, channels=channels or None, units=units, count=count, limit=limit,
            progress=progress,
        )  # fmt: skip
    _give(result, output, as_json)


@click.command()
@_options(
    click.option("--layer", default="", metavar="MODULE", help="Which submodule.  [default: the logits]"),
    _channel,
    click.option("--unit", nargs=2, type=click.IntRange(min=0), metavar="ROW COLUMN", help="One unit, not the mean."),
    click.option("--size", nargs=2, type=click.IntRange(min=1), metavar="H W", help="Of the image."),
    click.option("--steps", default=40, show_default=True, type=click.IntRange(min=0)),
    click.option("--rate", default=0.05, show_default=True, type=float, help="Adam's."),
    click.option("--parametrisation", type=click.Choice(["fourier", "pixels"]), default="fourier", show_default=True),
    click.option("--clip/--no-clip", default=True, show_default=True, help="Keep pixels in [0, 1]."),
    click.option("--jitter", default=2, show_default=True, type=click.IntRange(min=0), help="Pixels."),
    click.option("--blur", default=0.0, show_default=True, type=float, help="Standard deviation in pixels."),
    click.option("--l2", default=0.0, show_default=True, type=float, help="Weight of the sum of squares."),
    click.option("--tv", default=0.003, show_default=True, type=float, help="Weight of the total variation."),
    click.option("--restarts", default=1, show_default=True, type=click.IntRange(min=1)),
    click.option("--seed", default=0, show_default=True, type=int),
)
def maximize(
    name: str,
    weights: Path | None,
    args: dict[str, str],
    layer: str,
    channels: tuple[int, ...],
    unit: tuple[int, int] | None,
    size: tuple[int, int] | None,
    output: tuple[Path, ...],
    device: str | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Make images that drive channels, units or classes most.

    Without --layer, channels are classes; without --channel, the first ten. NAME without a tag stands for the
    model's default weights.
    """
    from zoo import look

    with only_answers(), show_progress(f"maximising {name}") as progress:
        network = _network(name, weights, args, device)
        result = look.maximize(
            network, layer, channels or None, position=unit, size=size, progress=progress, **settings
        )
    _give(result, output, as_json)


@click.command()
@_options(
    _layer,
    _image,
    _data,
    _split,
    _index,
    click.option("--method", default="grad_cam", show_default=True, help="occlusion, gradient, guided_backprop, ..."),
    click.option("--target", type=click.IntRange(min=0), help="Which class.  [default: the predicted one]"),
    click.option("--window", type=click.IntRange(min=1), help="Occlusion: the square's side in pixels."),
    click.option("--stride", type=click.IntRange(min=1), help="Occlusion: how far it moves."),
    click.option("--samples", default=50, show_default=True, type=click.IntRange(min=1), help="Of captum's methods."),
    click.option("--seed", default=0, show_default=True, type=int),
)
def attribute(
    name: str,
    weights: Path | None,
    args: dict[str, str],
    layer: str | None,
    image: Path | None,
    data: str | None,
    split: str,
    index: int | None,
    method: str,
    target: int | None,
    output: tuple[Path, ...],
    device: str | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Show which pixels of an image speak for a class.

    The result says what published sanity checks found of the method. NAME without a tag stands for the model's
    default weights.
    """
    from zoo import look

    with only_answers(), show_progress(f"{method} of {name}") as progress:
        network = _network(name, weights, args, device)
        shown = _input(network, image, data, split, index)
        result = look.attribute(network, shown, method, target, layer=layer, progress=progress, **settings)
    _give(result, output, as_json)


def _network(name: str, weights: Path | None, args: dict[str, str], device: str | None) -> "nn.Module":
    from zoo.creation import create_trained

    return create_trained(name, weights=weights, device=device, **read_args(args))


def _input(network: "nn.Module", image: Path | None, data: str | None, split: str, index: int | None) -> Any:
    """The image that was asked for: a file, or one of a data set."""
    from zoo.look.units import images_of

    if (image is None) == (index is None):
        raise click.UsageError("Name one image: --image FILE, or --index N of a data set.")
    if image is not None:
        return image
    images = images_of(network, data, split)
    if index is None or index >= len(images):
        raise click.UsageError(f"There is no image {index}: {images.name}/{images.split} has {len(images):,}.")
    return images.image(index)


def _give(result: "Look", files: tuple[Path, ...], as_json: bool) -> None:
    with only_answers():
        kept = [str(result.save(file)) for file in files]
        facts = {"caption": result.caption, **result.facts(), **({"files": kept} if kept else {})}
    if as_json:
        return print_json(facts)
    if not kept:
        note("Nothing was kept: -o FILE.png draws the result, -o FILE.safetensors keeps its tensors.")
    return echo("\n".join([result.caption, *_lines(facts), *kept]))


def _lines(facts: dict[str, Any]) -> list[str]:
    """A line a fact, and a line a row of those that are tables."""
    lines = []
    for key, value in facts.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines += ["  " + ", ".join(f"{name} {_short(cell)}" for name, cell in row.items()) for row in value]
        elif key not in ("caption", "files") and value is not None:
            lines.append(f"  {key}  {_short(value)}")
    return lines


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "; ".join(f"{row['activation']:.4g} in image {row['image']}" for row in value)
    return ", ".join(map(_short, value)) if isinstance(value, list) else str(value)
