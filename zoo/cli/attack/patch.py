"""``zoo attack patch``: pixels that make a network say one class, made, put onto images, scored."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.group import Commands
from zoo.cli.options import complete_name, device_option, json_option
from zoo.cli.output import do_each, echo, only_answers, print_facts, print_json, show_progress

if TYPE_CHECKING:
    from zoo.attack.patch import Ranges

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW_FILE = click.Path(dir_okay=False, path_type=Path)
_HOMES = {
    "train": "zoo.cli.attack.patch:train",
    "apply": "zoo.cli.attack.patch:apply",
    "score": "zoo.cli.attack.patch:score",
}


@click.group(cls=Commands, homes=_HOMES)
def patch() -> None:
    """Adversarial patches: make one, put it onto images, score it."""


def _numbers(count: tuple[int, ...]) -> Any:
    def check(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
        try:
            found = None if value is None else tuple(float(part) for part in value.split(","))
        except ValueError:
            found = ()
        if found is not None and len(found) not in count:
            raise click.BadParameter(f"{value!r}: expected {' or '.join(map(str, count))} numbers, such as 0.3,0.6.")
        return found

    return check


_places = (
    click.option("--scale", metavar="LOW,HIGH", callback=_numbers((1, 2)), help="Side over the image's shorter side."),
    click.option("--rotation", type=click.FloatRange(0, 180), metavar="DEGREES", help="By up to so much either way."),
    click.option("--location", metavar="X,Y", callback=_numbers((2,)), help="Its centre, 0 to 1 from the top left."),
    click.option("--seed", default=0, show_default=True, help="Decides places, and the images to learn from."),
)


def placed(command: Any) -> Any:
    for option in reversed(_places):
        command = option(command)
    return command


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_name)
@click.option("--data", required=True, help="A data set's name or path; its training split is learnt from.")
@click.option("--target", required=True, metavar="CLASS", help="By number or name.")
@click.option("--shape", type=click.Choice(["circle", "square"]), default="circle", show_default=True)
@placed
@click.option("--steps", default=500, show_default=True, type=click.IntRange(min=1))
@click.option("--batch-size", default=32, show_default=True, type=click.IntRange(min=1))
@click.option("--lr", default=0.05, show_default=True, type=click.FloatRange(min=0, min_open=True))
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Safetensors file."
)
@device_option
@json_option
def train(
    names: tuple[str, ...],
    data: str,
    target: str,
    shape: Any,
    scale: tuple[float, ...] | None,
    rotation: float | None,
    location: tuple[float, float] | None,
    seed: int,
    steps: int,
    batch_size: int,
    lr: float,
    output: Path,
    device: str | None,
    as_json: bool,
) -> None:
    """Make a patch that networks take for CLASS.

    Over random places (--scale, --rotation, --location) on training images of other classes.
    """
    with only_answers(), show_progress(f"patch for {', '.join(names)}") as progress:
        from zoo import data as datasets
        from zoo.attack.patch import Ranges
        from zoo.attack.patch_training import train_patch
        from zoo.attack.picture import class_number
        from zoo.training import by_name

        images = datasets.load(data, "train")
        ranges = _changed(Ranges(), scale, rotation, location)
        options: dict[str, Any] = {"shape": shape, "ranges": ranges, "steps": steps, "batch_size": batch_size}
        options |= {"lr": lr, "seed": seed, "device": device, "command": by_name.command_line()}
        made = train_patch(names, images, class_number(target, images.classes), progress=progress, **options)
        sha256 = made.write(output)
    if as_json:
        return print_json({"file": output, "sha256": sha256, "ranges": made.ranges, **_plain(made.origin)})
    return echo(output)


@click.command()
@click.argument("patch", type=_FILE)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=_FILE)
@placed
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of PNGs.")
@json_option
@click.pass_context
def apply(
    context: click.Context,
    patch: Path,
    images: tuple[Path, ...],
    scale: tuple[float, ...] | None,
    rotation: float | None,
    location: tuple[float, float] | None,
    seed: int,
    output: Path,
    as_json: bool,
) -> None:
    """Put a patch onto images, at their own size.

    Placed by lot within the ranges that it was made for, or those given.
    """
    with only_answers():
        from zoo.attack import patch as patches

        held = patches.read_patch(patch)
        ranges = _changed(held.ranges, scale, rotation, location)

    def work(name: str) -> str:
        import io

        from zoo.data.decode import read_image, to_image, to_pixels
        from zoo.system import storage

        with only_answers():
            pixels = to_pixels(read_image(Path(name), name, channels=3)).float() / 255
            held_here = patches.Patch(held.pixels, held.mask, ranges, held.origin)
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


@click.command()
@click.argument("patch", type=_FILE)
@click.argument("name", shell_complete=complete_name)
@click.option("--data", required=True, help="A data set's name or path.")
@click.option("--split", default="test", show_default=True)
@click.option("--target", metavar="CLASS", help="Count this class.  [default: the one that the patch was made for]")
@placed
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="So many images, at equal distances.")
@click.option("-o", "--output", type=_NEW_FILE, help="Figure of the patch on some images: SVG, PNG or PDF.")
@device_option
@json_option
def score(
    patch: Path,
    name: str,
    data: str,
    split: str,
    target: str | None,
    scale: tuple[float, ...] | None,
    rotation: float | None,
    location: tuple[float, float] | None,
    seed: int,
    limit: int | None,
    output: Path | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Count how often a patch makes a network say its class.

    Of images of other classes, with the patch and without it.
    """
    with only_answers(), show_progress(f"{patch.name} on {name}") as progress:
        from zoo import data as datasets
        from zoo.attack import figure, patch_training
        from zoo.attack import patch as patches
        from zoo.attack.picture import class_number
        from zoo.creation import create_trained
        from zoo.training import by_name

        if output is not None:
            figure.check_suffix(output)
            figure.require_matplotlib()
        model = create_trained(name, device=device)
        held = patches.read_patch(patch)
        images = datasets.load(data, split)
        number = None if target is None else class_number(target, images.classes)
        options: dict[str, Any] = {"ranges": _changed(held.ranges, scale, rotation, location), "limit": limit}
        options |= {"seed": seed, "command": by_name.command_line(), "progress": progress}
        found = patch_training.success(held, model, images, target=number, **options)
        if output is not None:
            patched, said = patch_training.examples(held, model, images, found, 6)
            about = f"{name}, {found.dataset}/{found.split}; {found.rate:.1f}% of {found.n:,} images fooled"
            figure.draw_patch(held, patched, said, output, caption=about)
    if as_json:
        return print_json(found)
    low, high = found.interval
    echo(f"{patch} on {found.weights or found.model}, {found.dataset}/{found.split}, class {found.target}")
    return print_facts(
        [
            ("fooled", f"{found.rate:.2f}%  ({found.fooled:,} of {found.n:,}; 95% interval {low:.2f} to {high:.2f})"),
            ("without it", f"{found.without:.2f}%"),
            ("still right", f"{found.top1:.2f}%"),
            ("area", f"{100 * found.area:.1f}% of an image"),
            ("images", found.fingerprint),
        ]
    )


def _changed(
    ranges: "Ranges", scale: tuple[float, ...] | None, rotation: float | None, location: tuple[float, float] | None
) -> "Ranges":
    import msgspec

    given: dict[str, Any] = {"rotation": rotation, "location": location}
    given["scale"] = None if scale is None else (scale[0], scale[-1])
    return msgspec.structs.replace(ranges, **{name: value for name, value in given.items() if value is not None})


def _plain(value: Any) -> dict[str, Any]:
    import msgspec

    plain: dict[str, Any] = msgspec.to_builtins(value)
    return plain
