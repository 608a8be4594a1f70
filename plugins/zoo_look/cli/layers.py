"""``zoo look layers``, ``filters``, ``diagnose``, ``features``: what layers are, and what they compute."""

from typing import Any

import click

from zoo.cli import options
from zoo.cli.output import stdout_to_stderr
from zoo_look.cli.options import (
    Answer,
    image_options,
    layer_option,
    look_command,
    model_options,
    open_model,
    pick_images,
    present,
)  # fmt: skip


@click.command(epilog="Example: zoo look layers resnet20")
@options.name
@options.args
@options.json
def layers(name: str, args: dict[str, str], as_json: bool) -> None:
    """List a network's layers and the shapes of their outputs.

    NAME without a tag is built without weights.
    """
    import msgspec

    import zoo_look as look
    from zoo.creation import create

    with stdout_to_stderr():
        rows = msgspec.to_builtins(look.layers(create(name, **options.read_args(args))))
    shown = [
        {"layer": row["name"], "kind": row["kind"], "output": " x ".join(map(str, row["shape"]))}
        | {"runs": row["calls"] if row["calls"] > 1 else None}
        for row in rows
    ]
    present(f"Layers of {name}", {"layers": rows}, {"layers": shown}, [], as_json)


@look_command(
    "zoo look filters alexnet_small.c10 -o filters.png",
    *model_options,
    options.choice("--scale", values=["each", "shared"], help="Scale grey values for each filter or for all."),
)
def filters(scale: Any, **model: Any) -> Answer:
    """Show first-layer filters and the nearest Gabor filters."""
    import zoo_look as look

    found = look.filters(open_model(**model), scaling=scale)
    shown = {"filters": f"{len(found.weight)} of {' x '.join(map(str, found.weight.shape[1:]))}"}
    if found.nearest is None or found.noise is None:
        return found, {**shown, "nearest Gabor filters": "not fitted: kernels below 5 x 5 fit nearly any"}
    error, noise = float(found.nearest.error.median()), float(found.noise.median())
    return found, {
        **shown,
        "distance to the nearest Gabor filter": f"{error:.2f} of the norm (median); filters of noise: {noise:.2f}",
        "wave directions, 22.5 degrees each": " ".join(map(str, found.orientations().tolist())),
    }


@look_command("zoo look diagnose alexnet_small.c10", *model_options)
def diagnose(**model: Any) -> Answer:
    """Measure frequencies, aliasing and dead first-layer filters."""
    import zoo_look as look

    found = look.diagnose(open_model(**model))
    facts = found.facts()
    shown = {band: f"{facts[band]:.0%} of the energy" for band in ("low", "middle", "high", "aliased")}
    return found, {**shown, "dead": f"{facts['dead']} of {facts['filters']}"}


@look_command(
    "zoo look features resnet20.digits --layer layer1 --image digit.png", *model_options, layer_option, *image_options
)
def features(
    layer: str | None, image: Any, data: str | None, split: str, indices: tuple[int, ...], **model: Any
) -> Answer:
    """Show a layer's output for an image.

    Without --layer, the last default layer. Several --index of a layer whose output is an image, such as a spatial
    transformer: each image above its output.
    """
    import zoo_look as look
    from zoo_look.units import chosen_layer

    network = open_model(**model)
    images = pick_images(network, image, data, split, indices)
    layer = chosen_layer(network, layer)
    if len(images) > 1:
        pairs = look.before_and_after(network, images, layer)
        return pairs, {"mean change of a pixel": pairs.facts()["changes"]}
    found = look.features(network, images[0], layer)
    facts = found.facts()
    return found, {
        "maps": " x ".join(map(str, facts["shape"])),
        "strongest channels": found.strongest(8),
        "silent channels": facts["silent"],
    }
