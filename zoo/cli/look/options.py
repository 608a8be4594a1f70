"""What the commands of ``zoo look`` share: which network, which image, and what becomes of the result."""

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.options import args_option, complete_name, device_option, json_option, read_args
from zoo.cli.output import echo, note, print_facts, print_json

if TYPE_CHECKING:
    from PIL import Image

    from zoo.look.result import Look


def look_options(command: Callable[..., None]) -> Callable[..., None]:
    """NAME and how it is opened, ``-o`` and ``--json``.

    ``command`` gets ``open_model``, which makes the network, ``outputs`` and ``as_json``.
    """

    @click.argument("name", shell_complete=complete_name)
    @click.option(
        "--weights",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A local safetensors file, in place of NAME's own weights.",
    )
    @args_option
    @click.option(
        "-o", "--output", "outputs", multiple=True, type=click.Path(dir_okay=False, path_type=Path), help="Keep it."
    )
    @device_option
    @json_option
    @wraps(command)
    def wrapped(name: str, weights: Path | None, args: dict[str, str], device: str | None, **rest: Any) -> None:
        def open_model() -> Any:
            from zoo.creation import create_trained

            return create_trained(name, weights=weights, device=device, **read_args(args))

        command(open_model=open_model, **rest)

    decorated: Callable[..., None] = wrapped
    return decorated


def pick_image(image: Path | None, data: str | None, split: str, index: int) -> "Path | Image.Image":
    """The file, or image ``index`` of a data set's split."""
    if (image is None) == (data is None):
        raise click.UsageError("Give either --image FILE or --data DATA [--split SPLIT] [--index N].")
    if image is not None:
        return image
    from zoo import data as datasets

    images = datasets.load(str(data), split)
    if index >= len(images):
        raise click.BadParameter(f"{data}/{split} has {len(images):,} images.", param_hint="'--index'")
    picked = images.image(index)
    picked.info["title"] = f"image {index} of {data}/{split}"
    return picked


def present(
    found: "Look", facts: Sequence[tuple[str, str]], *, outputs: tuple[Path, ...] = (), as_json: bool = False
) -> None:
    """Keeps ``found`` in the files ``outputs`` and prints ``facts``, or everything as JSON."""
    kept = [found.save(file) for file in outputs]
    if as_json:
        return print_json({"caption": found.caption, **found.facts(), "files": kept})
    if facts:
        echo(found.caption)
        print_facts(facts)
    for file in kept:
        note(f"wrote {file}")
    return None
