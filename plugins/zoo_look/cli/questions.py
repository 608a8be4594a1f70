"""Questions about layers, classes and data, and those that plugins bring."""

from pathlib import Path
from typing import Any

import click

from zoo.cli import options
from zoo.cli.output import show_progress, stdout_to_stderr
from zoo.spec import LookQuestion
from zoo_look.cli.options import (
    Answer,
    image_options,
    layer_option,
    limit_option,
    look_command,
    model_options,
    open_model,
    pick_image,
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
    from zoo.loading.create import create

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

    result = look.filters(open_model(**model), scaling=scale)
    shown = {"filters": f"{len(result.weight)} of {' x '.join(map(str, result.weight.shape[1:]))}"}
    if result.nearest is None or result.noise is None:
        return result, {**shown, "nearest Gabor filters": "not fitted: kernels below 5 x 5 fit nearly any"}
    error, noise = float(result.nearest.error.median()), float(result.noise.median())
    return result, {
        **shown,
        "distance to the nearest Gabor filter": f"{error:.2f} of the norm (median); filters of noise: {noise:.2f}",
        "wave directions, 22.5 degrees each": " ".join(map(str, result.orientations().tolist())),
    }


@look_command(
    "zoo look diagnose alexnet_small.c10",
    *model_options,
    click.option("--untrained", is_flag=True, help="Look at NAME as initialised from seed 0, to compare with."),
)
def diagnose(**model: Any) -> Answer:
    """Measure frequencies, aliasing and dead first-layer filters."""
    import zoo_look as look

    result = look.diagnose(open_model(**model))
    facts = result.facts()
    shown = {band: f"{facts[band]:.0%} of the energy" for band in ("low", "middle", "high", "aliased")}
    return result, {**shown, "dead": f"{facts['dead']} of {facts['filters']}"}


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
    from zoo_look.network import chosen_layer

    network = open_model(**model)
    images = pick_images(network, image, data, split, indices)
    layer = chosen_layer(network, layer)
    if len(images) > 1:
        pairs = look.before_and_after(network, images, layer)
        return pairs, {"mean change of a pixel": pairs.facts()["changes"]}
    result = look.features(network, images[0], layer)
    facts = result.facts()
    return result, {
        "maps": " x ".join(map(str, facts["shape"])),
        "strongest channels": result.strongest(8),
        "silent channels": facts["silent"],
    }


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

    result = look.confusion(open_model(name, weights, args, device), data, split, limit=limit, examples=examples)
    pairs = [
        {"true": pair.true, "predicted": pair.predicted, "images": f"{pair.images:,} of {pair.n:,}"}
        for pair in result.pairs[:10]
    ]
    return result, {"images": result.fingerprint, "confused": pairs or "no classes"}


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
        result = look.invariance(names, data, split, strengths=strengths, progress=progress, **keywords)
    points = [
        {
            "weights": point.model,
            "transformation": point.transformation,
            "strength": point.strength,
            "top-1": f"{point.top1:.2f}",
            "95% interval": f"{point.interval[0]:.2f} to {point.interval[1]:.2f}",
            "similarity": f"{point.similarity:.3f}",
        }
        for point in result.points
    ]
    return result, {"data": result.data, "images": result.fingerprint, "edges": result.edges, "points": points}


@look_command(
    "zoo look representations resnet20.c10 plain20.c10 --data cifar10",
    click.argument("first", shell_complete=options.complete_name, callback=options.refuse_pattern),
    click.argument("second", shell_complete=options.complete_name, callback=options.refuse_pattern),
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
        result = look.representations(first, second, data, split, progress=progress, **keywords)
    table = [
        {"layer": name, **{column: f"{value:.2f}" for column, value in zip(result.layers[1], row, strict=True)}}
        for name, row in zip(result.layers[0], result.cka.tolist(), strict=True)
    ]
    return result, {"images": result.n, "cka": table}


@look_command(
    "zoo look trajectory runs/mine --data digits -o trajectory.png",
    click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path)),
    options.required_data,
    options.split,
    layer_option,
    limit_option,
    options.device,
)
def trajectory(run: Path, data: str, split: str, **keywords: Any) -> Answer:
    """Show a training as it went, from the networks that --keep-epochs kept.

    Which images are right from an epoch on, which are forgotten, how alike a layer is between epochs, and the first
    layer's filters as they form.
    """
    import zoo_look as look

    with show_progress("trajectory") as progress:
        result = look.trajectory(run, data, split, progress=progress, **keywords)
    history = result.history()
    table = [
        {"epoch": epoch, **{name: f"{values[row]:.2f}%" for name, values in history.items()}}
        for row, epoch in enumerate(result.epochs)
    ]
    facts = result.facts()
    shown = {name: facts[name] for name in ("images", "never_forgotten", "never_right")}
    return result, {"epochs": table, **shown}


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
    from zoo_look.invariance_curves import STRENGTHS

    name, equals, values = text.partition("=")
    try:
        return name, tuple(float(value) for value in values.split(",")) if equals else STRENGTHS.get(name, (0.0,))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not NAME=NUMBER,NUMBER,... such as rotation=0,45,90.") from None


def command(name: str, question: LookQuestion) -> click.Command:
    """Returns ``zoo look NAME MODEL``: options of the model, the layer, the image, and the question's own."""

    @look_command(
        f"zoo look {name} resnet20.digits --index 0",
        *model_options,
        layer_option,
        *image_options,
        options.pairs("--set", "settings", help="Set an argument of the question. Repeatable."),
    )
    def ask(
        layer: str | None,
        image: Path | None,
        data: str | None,
        split: str,
        indices: tuple[int, ...],
        settings: dict[str, str],
        **model: Any,
    ) -> Answer:
        import zoo_look as look
        from zoo.system.toml import read_value

        network = open_model(**model)
        has_image = image is not None or bool(indices)
        shown = pick_image(network, image=image, data=data, split=split, indices=indices) if has_image else None
        values = {key: read_value(value) for key, value in settings.items()}
        result = look.ask(name, network, shown, layer=layer or "", options=values)
        return result, result.facts()

    ask.help = question.note or f"Ask {name}."
    ask.name = name
    return ask
