"""``zoo look deconv``, ``patches``, ``maximize``, ``attribute``: what drives units and classes."""

from collections.abc import Mapping
from typing import Any

import click

from zoo.cli import options
from zoo.cli.output import show_progress
from zoo_look.cli.options import (
    Answer,
    channel_option,
    image_options,
    layer_option,
    limit_option,
    look_command,
    model_options,
    open_model,
    pick_image,
)  # fmt: skip

_units = click.option(
    "--units", default=9, show_default=True, type=options.POSITIVE, help="Number of channels, without --channel."
)
_count = click.option("--count", default=9, show_default=True, type=options.POSITIVE, help="Images per channel.")


@look_command(
    "zoo look deconv resnet20.digits --layer layer1 -o units.png",
    *model_options, layer_option, channel_option, *image_options, _units, _count, limit_option,
)  # fmt: skip
def deconv(
    layer: str | None, channels: tuple[int, ...], image: Any, data: str | None, split: str, indices: tuple[int, ...],
    units: int, count: int, limit: int, **model: Any,
) -> Answer:  # fmt: skip
    """Project units back into pixels (Zeiler and Fergus, 2013).

    Over a data set: the strongest units of each channel and the patches that they see. With --image or --index:
    one unit for one image. Without --layer, the last default layer.
    """
    import zoo_look as look

    is_one = image is not None or bool(indices)
    if is_one and len(channels) > 1:
        raise click.UsageError("One image is projected for one channel.")
    network = open_model(**model)
    if is_one:
        picked = pick_image(network, image=image, data=data, split=split, indices=indices)
        projection = look.project(network, picked, layer, channels[0] if channels else None)
        return projection, projection.facts()
    with show_progress("deconv") as progress:
        result = look.deconv(
            network, layer, data, split, channels=channels or None, units=units, count=count, limit=limit,
            progress=progress,
        )  # fmt: skip
    return result, _strongest(result.facts())


@look_command(
    "zoo look patches resnet20.digits --layer layer1 -o patches.png",
    *model_options, layer_option, channel_option, options.data, options.split, _units, _count, limit_option,
)  # fmt: skip
def patches(
    layer: str | None, channels: tuple[int, ...], data: str | None, split: str, units: int, count: int, limit: int,
    **model: Any,
) -> Answer:  # fmt: skip
    """Find the image patches that drive channels most.

    Each patch is the receptive field of a unit. Without --layer, the last default layer.
    """
    import zoo_look as look

    with show_progress("patches") as progress:
        result = look.patches(
            open_model(**model), layer, data, split, channels=channels or None, units=units, count=count, limit=limit,
            progress=progress,
        )  # fmt: skip
    return result, _strongest(result.facts())


@look_command(
    "zoo look maximize resnet20.digits --channel 3 -o three.png",
    *model_options,
    layer_option,
    channel_option,
    click.option("--unit", nargs=2, type=click.IntRange(min=0), metavar="ROW COLUMN", help="Drive one unit only."),
    click.option("--size", nargs=2, type=options.POSITIVE, metavar="H W", help="Size of the image."),
    click.option("--steps", type=click.IntRange(min=0), help="Steps of Adam.  [default: 128; above 64 pixels 150]"),
    click.option("--rate", type=float, help="Adam learning rate.  [default: 0.05; above 64 pixels 0.015]"),
    options.choice("--parametrisation", values=["fourier", "pixels"], help="Parametrisation of the image."),
    click.option("--clip/--no-clip", default=True, show_default=True, help="Clip pixels to [0, 1]."),
    click.option("--jitter", type=click.IntRange(min=0), help="Random shift.  [default: 2 pixels; above 64 pixels 12]"),
    click.option("--rotate", type=click.FloatRange(min=0), help="Random turn.  [default: 10 degrees; one unit: none]"),
    click.option(
        "--zoom", type=click.FloatRange(0, 1, max_open=True),
        help="Random change of size, a share.  [default: 0.1; one unit: none]",
    ),
    click.option("--decorrelate/--no-decorrelate", default=True, show_default=True, help="Colours as in photographs."),
    click.option("--blur", type=float, help="Standard deviation of a blur.  [default: 0; above 64 pixels 0.3]"),
    click.option("--l2", default=0.0, show_default=True, type=float, help="Weight of the sum of squares."),
    click.option("--tv", type=float, help="Weight of the total variation.  [default: 0.003; above 64 pixels 0.0001]"),
    click.option("--restarts", default=1, show_default=True, type=options.POSITIVE, help="Random starts per channel."),
    options.seed,
)  # fmt: skip
def maximize(
    layer: str | None, channels: tuple[int, ...], unit: tuple[int, int] | None, size: tuple[int, int] | None,
    name: str, weights: Any, args: dict[str, str], device: str | None, **settings: Any,
) -> Answer:  # fmt: skip
    """Optimise images that drive channels, units or classes most.

    Without --layer, channels are classes; without --channel, the first ten.
    """
    import zoo_look as look

    with show_progress("maximize") as progress:
        result = look.maximize(
            open_model(name, weights, args, device), layer or "", channels or None, position=unit, size=size,
            progress=progress, **settings,
        )  # fmt: skip
    return result, result.facts()


@look_command(
    "zoo look attribute resnet20.digits --index 3 --method occlusion",
    *model_options,
    layer_option,
    *image_options,
    click.option(
        "--method", default="grad_cam", show_default=True,
        help="One of gradient, grad_cam, smooth_grad, input_x_gradient, integrated_gradients, guided_backprop, "
        "guided_grad_cam or occlusion.",
    ),
    options.target,
    click.option("--window", type=options.POSITIVE, help="Side of the occluded square in pixels."),
    click.option("--stride", type=options.POSITIVE, help="Step of the occluded square in pixels."),
    click.option("--samples", default=50, show_default=True, type=options.POSITIVE, help="Samples, for captum."),
    options.seed,
)  # fmt: skip
def attribute(
    layer: str | None, image: Any, data: str | None, split: str, indices: tuple[int, ...], method: str,
    target: str | None, name: str, weights: Any, args: dict[str, str], device: str | None, **settings: Any,
) -> Answer:  # fmt: skip
    """Show which pixels of an image support a class.

    The result states how the method fares in published sanity checks. Without --target, the predicted class.
    """
    import zoo_look as look
    from zoo.evaluation.prediction import class_number

    network = open_model(name, weights, args, device)
    picked = pick_image(network, image=image, data=data, split=split, indices=indices)
    from zoo.evaluation.prediction import class_names_of

    number = None if target is None else class_number(target, class_names_of(network))
    with show_progress(method) as progress:
        result = look.attribute(network, picked, method, number, layer=layer, progress=progress, **settings)
    return result, result.facts()


def _strongest(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row per channel."""
    rows = [
        {
            "channel": row["channel"],
            "strongest": "; ".join(f"{unit['activation']:.4g} in image {unit['image']}" for unit in row["strongest"]),
        }
        for row in facts["channels"]
    ]
    return {**facts, "channels": rows}
