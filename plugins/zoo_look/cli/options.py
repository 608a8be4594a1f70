"""Options that the commands of ``zoo look`` share, with their defaults, the image, how a result is shown."""

from collections.abc import Callable, Mapping
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli import options
from zoo.cli.output import echo, note, print_facts, print_json, print_table, stdout_to_stderr
from zoo.errors import MissingExtraError

if TYPE_CHECKING:
    from PIL import Image
    from torch import nn

    from zoo_look.result import Look

Answer = tuple["Look", Mapping[str, Any]]
"""A result, and the facts to print about it; JSON has all of :meth:`Look.facts`."""

layer_option: options.Option = click.option("--layer", metavar="MODULE", help="Submodule; zoo look layers lists them.")
channel_option: options.Option = click.option(
    "--channel", "channels", multiple=True, type=click.IntRange(min=0), metavar="N", help="Show channel N. Repeatable."
)
limit_option: options.Option = click.option(
    "--limit", default=1000, show_default=True, type=options.POSITIVE, metavar="N", help="Use at most N images."
)
model_options = (options.name, options.weights, options.args, options.device)
image_options = (
    click.option("--image", type=options.FILE, help="Image file."),
    options.data,
    options.split,
    click.option(
        "--index", "indices", multiple=True, type=click.IntRange(min=0), metavar="N",
        help="Image N of the split. Repeatable.",
    ),
)  # fmt: skip


def _check_outputs(context: click.Context, parameter: click.Parameter, values: tuple[Path, ...]) -> tuple[Path, ...]:
    for value in values:
        options.keep_network(context, parameter, value)
        if value.suffix not in (".json", ".safetensors") and find_spec("matplotlib") is None:
            raise MissingExtraError.of("A figure", "matplotlib", "zoo-vision[look]")
    return values


_output = click.option(
    "-o", "--output", "outputs", multiple=True, type=options.NEW_FILE, metavar="FILE", callback=_check_outputs,
    help="Write the result to FILE: .png, .webp, .svg, .pdf (figure), .json (facts) or .safetensors (tensors). "
    "Repeatable.",
)  # fmt: skip


def look_command(example: str, *chosen: options.Option) -> Callable[[Callable[..., Answer]], click.Command]:
    """Returns a command with options ``chosen``, ``-o`` and ``--json``; writes and prints what the function returns."""

    def decorate(function: Callable[..., Answer]) -> click.Command:
        @wraps(function)
        def run(outputs: tuple[Path, ...], as_json: bool, **asked: Any) -> None:
            with stdout_to_stderr():
                result, shown = function(**asked)
                files = [result.save(file) for file in outputs]
            present(result.caption, result.facts(), shown, files, as_json)
            if not files and not as_json:
                note("-o FILE.png draws this, -o FILE.safetensors writes its tensors.")

        return click.command(epilog=f"Example: {example}")(options.several(*chosen, _output, options.json)(run))

    return decorate


def open_model(
    name: str, weights: Path | None, args: dict[str, str], device: str | None, untrained: bool = False
) -> "nn.Module":
    """Returns the network that :data:`model_options` name, trained unless it is to be ``untrained``."""
    from zoo.loading.create import create, create_trained
    from zoo.loading.resolve import model_named, with_file

    if untrained:
        import torch

        model, file = with_file(name, weights)
        if file is not None or model_named(model, None).weights is not None:
            raise click.UsageError("--untrained: expected the name of a model, without weights.")
        torch.manual_seed(0)
        return create(name, device=device, **options.read_args(args))
    return create_trained(name, weights=weights, device=device, **options.read_args(args))


def pick_images(
    network: "nn.Module", image: Path | None, data: str | None, split: str, indices: tuple[int, ...]
) -> "list[Path | Image.Image]":
    """Returns the images that :data:`image_options` name: a file, or some of a data set."""
    from zoo_look.network import images_of

    if (image is None) == (not indices):
        raise click.UsageError("Give an image: --image FILE, or --index N of a data set.")
    if image is not None:
        return [image]
    images = images_of(network, data, split)
    where = f"{images.name}/{images.split}"
    picked: list[Path | Image.Image] = []
    for index in indices:
        if index >= len(images):
            raise click.BadParameter(f"{index}: {where} has {len(images):,} images.", param_hint="'--index'")
        shown = images.image(index)
        shown.info["title"] = f"image {index} of {where}"
        picked.append(shown)
    return picked


def pick_image(network: "nn.Module", **asked: Any) -> "Path | Image.Image":
    """Picks one image as :func:`pick_images` picks several."""
    first, *others = pick_images(network, **asked)
    if others:
        raise click.BadParameter("expected one image.", param_hint="'--index'")
    return first


def present(
    caption: str, facts: Mapping[str, Any], shown: Mapping[str, Any], files: list[Path], as_json: bool = False
) -> None:
    """Prints ``caption``, a line for each fact of ``shown``, a table for each list of rows, and ``files``; or JSON."""
    if as_json:
        return print_json({"caption": caption, **facts, "files": files})
    tables = {name: value for name, value in shown.items() if _is_table(value)}
    lines = [(name, _text(value)) for name, value in shown.items() if name not in tables]
    echo(caption)
    if lines:
        print_facts(lines)
    for rows in tables.values():
        numbers = [title for title, value in rows[0].items() if isinstance(value, int | float)]
        print_table([*rows[0]], [[_text(cell) for cell in row.values()] for row in rows], right=numbers)
    for file in files:
        echo(file)
    return None


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
