"""``zoo attack patch``: pixels that make a network predict one class."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli import options
from zoo.cli.group import Commands
from zoo.cli.output import do_each, echo, print_facts, print_json, show_progress, stdout_to_stderr
from zoo_attack.cli.options import check_figure, figure_option

if TYPE_CHECKING:
    from zoo_attack.patch import Ranges

_SECTIONS = {
    "Commands:": {
        "train": "zoo_attack.cli.patch:train",
        "apply": "zoo_attack.cli.patch:apply",
        "score": "zoo_attack.cli.patch:score",
    }
}


@click.group(
    cls=Commands, sections=_SECTIONS,
    epilog="Example: zoo attack patch score ship.safetensors resnet20.c10 --data cifar10",
)  # fmt: skip
def patch() -> None:
    """Train an adversarial patch, apply it to images, score it."""


def _numbers(count: tuple[int, ...]) -> Any:
    def check(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
        try:
            numbers = None if value is None else tuple(float(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if numbers is not None and len(numbers) not in count:
            raise click.BadParameter(f"{value!r}: expected {' or '.join(map(str, count))} numbers, such as 0.3,0.6.")
        return numbers

    return check


_patch_argument: options.Option = click.argument("patch", type=options.FILE)
_place_options = (
    click.option(
        "--scale", metavar="LOW,HIGH", callback=_numbers((1, 2)), help="Side of the patch over that of the image."
    ),
    click.option("--rotation", type=click.FloatRange(0, 180), metavar="DEGREES", help="Largest rotation either way."),
    click.option("--location", metavar="X,Y", callback=_numbers((2,)), help="Centre, 0 to 1 from the top left."),
    options.seed,
)


@click.command(epilog="Example: zoo attack patch train zfnet --data cub --target 3 -o p.safetensors")
@options.several(options.names, options.required_data)
@click.option("--target", required=True, metavar="CLASS", help="Class, by number or name.")
@options.choice("--shape", values=["circle", "square"], help="Shape of the patch.")
@options.several(*_place_options)
@click.option("--steps", default=500, show_default=True, type=options.POSITIVE, help="Steps of Adam.")
@options.batch_size(32)
@click.option(
    "--lr", default=0.05, show_default=True, type=click.FloatRange(min=0, min_open=True), help="Adam learning rate."
)
@options.output("Write the patch to FILE.safetensors.", suffix=".safetensors")
@options.several(options.device, options.json)
def train(names: tuple[str, ...], data: str, target: str, output: Path, as_json: bool, **settings: Any) -> None:
    """Train a patch that makes networks predict CLASS.

    The patch is trained at random places (--scale, --rotation, --location) on training images of other classes.
    """
    with stdout_to_stderr(), show_progress(f"patch for {', '.join(names)}") as progress:
        from zoo import data as datasets
        from zoo.evaluation.prediction import class_number
        from zoo.training import by_name
        from zoo_attack.patch import Ranges
        from zoo_attack.patch_training import train_patch

        images = datasets.load(data, "train")
        ranges = _changed(Ranges(), **{part: settings.pop(part) for part in ("scale", "rotation", "location")})
        settings |= {"ranges": ranges, "command": by_name.command_line()}
        made = train_patch(names, images, class_number(target, images.classes), progress=progress, **settings)
        sha256 = made.write(output)
    if as_json:
        return print_json({"file": output, "sha256": sha256, "ranges": made.ranges, **_plain(made.origin)})
    return echo(output)


@click.command(epilog="Example: zoo attack patch apply ship.safetensors photo.png -o patched")
@_patch_argument
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=options.FILE)
@options.several(*_place_options)
@options.output("Write PNG files into DIR.", options.NEW_FOLDER)
@options.json
@click.pass_context
def apply(
    context: click.Context,
    /,
    patch: Path,
    images: tuple[Path, ...],
    seed: int,
    output: Path,
    as_json: bool,
    **place: Any,
) -> None:
    """Apply a patch to images, at their own size.

    The place is random, within the ranges of the patch's training or the ones given.
    """
    with stdout_to_stderr():
        from zoo_attack import patch as patches

        trained = patches.read_patch(patch)
        ranges = _changed(trained.ranges, **place)

    def work(name: str) -> str:
        import io

        from zoo.data.image_file import read_image, to_image, to_pixels
        from zoo.system import storage

        with stdout_to_stderr():
            pixels = to_pixels(read_image(Path(name), name, channels=3)).float() / 255
            held_here = patches.Patch(trained.pixels, trained.mask, ranges, trained.origin)
            changed = patches.apply(held_here, pixels[None], seed=seed)[0]
            written = io.BytesIO()
            to_image((changed * 255).round().byte()).save(written, "PNG")
            file = output / f"{Path(name).stem}.png"
            storage.replace(file, written.getvalue())
        if not as_json:
            echo(file)
        return str(file)

    done, failed, code = do_each([str(image) for image in images], work)
    if as_json:
        rows = [{"image": image, "patched": file} for image, file in done.items()]
        rows += [{"image": image, "error": reason} for image, reason in failed.items()]
        print_json({"patch": patch, "ranges": ranges, "seed": seed, "images": rows})
    context.exit(code)


@click.command(epilog="Example: zoo attack patch score ship.safetensors resnet20.c10 --data cifar10")
@_patch_argument
@options.several(options.name, options.required_data, options.split, options.target, *_place_options)
@options.several(options.limit, figure_option, options.device, options.json)
def score(
    patch: Path,
    name: str,
    data: str,
    split: str,
    target: str | None,
    seed: int,
    limit: int | None,
    output: Path | None,
    device: str | None,
    as_json: bool,
    **place: Any,
) -> None:
    """Measure how often a patch makes a network predict its class.

    Images of other classes are classified with the patch and without it. Without --target, the class that the patch
    was trained for. -o FILE.json writes the result with the patch, for zoo gallery build --failures.
    """
    with stdout_to_stderr(), show_progress(f"{patch.name} on {name}") as progress:
        from zoo import data as datasets
        from zoo.evaluation.prediction import class_number
        from zoo.loading.create import create_trained
        from zoo.training import by_name
        from zoo_attack import figure, patch_training
        from zoo_attack import patch as patches

        is_drawn = output is not None and output.suffix != ".json"
        check_figure(output if is_drawn else None)
        model = create_trained(name, device=device)
        trained = patches.read_patch(patch)
        images = datasets.load(data, split)
        number = None if target is None else class_number(target, images.classes)
        settings: dict[str, Any] = {"ranges": _changed(trained.ranges, **place), "limit": limit}
        settings |= {"seed": seed, "command": by_name.command_line(), "progress": progress}
        measured = patch_training.success(trained, model, images, target=number, **settings)
        if output is not None and not is_drawn:
            patch_training.write(measured, trained, images, output)
        elif output is not None:
            patched, predicted = patch_training.examples(trained, model, images, measured, 6)
            about = f"{name}, {measured.dataset}/{measured.split}; {measured.rate:.1f}% of {measured.n:,} images fooled"
            figure.draw_patch(trained, patched, predicted, output, caption=about)
    if as_json:
        return print_json(measured)
    low, high = measured.interval
    echo(
        f"{patch} on {measured.weights or measured.model}, {measured.dataset}/{measured.split}, class {measured.target}"
    )
    return print_facts(
        [
            (
                "fooled",
                f"{measured.rate:.2f}%  ({measured.fooled:,} of {measured.n:,}; 95% interval {low:.2f} to {high:.2f})",
            ),
            ("without it", f"{measured.without:.2f}%"),
            ("still right", f"{measured.top1:.2f}%"),
            ("area", f"{100 * measured.area:.1f}% of an image"),
            ("images", measured.fingerprint),
        ]
    )


def _changed(ranges: "Ranges", **place: Any) -> "Ranges":
    """Returns ``ranges`` with what :data:`_place_options` give; one number for a scale is both its ends."""
    import msgspec

    stated = {name: value for name, value in place.items() if value is not None}
    if "scale" in stated:
        stated["scale"] = (stated["scale"][0], stated["scale"][-1])
    return msgspec.structs.replace(ranges, **stated)


def _plain(value: Any) -> dict[str, Any]:
    import msgspec

    plain: dict[str, Any] = msgspec.to_builtins(value)
    return plain
