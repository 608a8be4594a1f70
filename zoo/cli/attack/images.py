"""``zoo attack image``, ``curve``: one image, a data set over epsilon."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.options import complete_name, device_option, json_option
from zoo.cli.output import echo, note, only_answers, print_facts, print_json, print_table, show_progress
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.attack.robustness import Curve

METHODS = ("fgsm", "pgd", "pgd_l2", "autoattack", "random_sign")
"""Those of ``zoo.attack.method``, which may be imported only once a command runs."""

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def check_epsilons(context: click.Context, parameter: click.Parameter, value: str) -> list[float]:
    """Numbers separated by commas, such as ``0,1/255,2/255``."""
    from zoo.attack.method import read_epsilon

    try:
        return [read_epsilon(part.strip()) for part in value.split(",")]
    except ZooError as error:
        raise click.BadParameter(error.message) from None


_method_options = (
    click.option("--steps", default=20, show_default=True, type=click.IntRange(min=1), help="Of PGD."),
    click.option(
        "--step-size", default=0.0, type=click.FloatRange(min=0), help="Of PGD, times epsilon.  [default: 2.5 / steps]"
    ),
    click.option("--no-random-start", is_flag=True, help="Let PGD start at the image itself."),
    click.option("--seed", default=0, show_default=True),
)


def method_options(command: Any) -> Any:
    for option in reversed(_method_options):
        command = option(command)
    return command


@click.command()
@click.argument("name", shell_complete=complete_name)
@click.argument("picture", metavar="IMAGE", type=_FILE)
@click.option("--attack", "kind", type=click.Choice(METHODS), default="fgsm", show_default=True)
@click.option("--epsilon", default="8/255", show_default=True, callback=check_epsilons)
@click.option("--target", metavar="CLASS", help="Make the network say this class, by number or name.")
@method_options
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Figure: SVG, PNG or PDF.")
@device_option
@json_option
def image(
    name: str,
    picture: Path,
    kind: Any,
    epsilon: list[float],
    target: str | None,
    steps: int,
    step_size: float,
    no_random_start: bool,
    seed: int,
    output: Path | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Attack one image.

    Tells what the network says before, after, and once the attacked image is stored with 8 bits; -o
    draws the image, the change and the result. Without --target, away from what it says.
    """
    if len(epsilon) != 1:
        raise click.BadParameter("one image is attacked within one epsilon.", param_hint="'--epsilon'")
    with only_answers():
        from zoo.attack import Method, figure
        from zoo.attack import picture as pictures
        from zoo.creation import create_trained, info_of
        from zoo.data.decode import read_image

        if output is not None:
            figure.check_suffix(output)
            figure.require_matplotlib()
        method = Method(kind, steps, step_size, not no_random_start, seed)
        model = create_trained(name, device=device)
        info = info_of(model)
        classes = info.class_names or known_classes(info.classes)
        number = None if target is None else pictures.class_number(target, classes)
        pixels = read_image(picture, str(picture), channels=info.preprocess.input_size[0])
        found = pictures.attack_picture(model, pixels, method, epsilon[0], target=number, classes=classes)
        if output is not None:
            figure.draw_picture(found, output, caption=f"{info.name} on {picture.name}, pixels in [0, 1]")
    said = {"before": found.before, "after": found.after, "stored": found.stored}
    if as_json:
        about = {"model": info.model.name, "weights": info.name, "image": picture, "epsilon": epsilon[0]}
        return print_json({**about, "method": method, "target": number, **said, "figure": output})
    print_facts([("before", str(found.before)), ("after", str(found.after)), ("as 8 bits", str(found.stored))])
    return echo(output) if output is not None else None


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_name)
@click.option("--data", required=True, help="A data set's name or path.")
@click.option("--split", default="test", show_default=True)
@click.option(
    "--attack", "kinds", multiple=True, type=click.Choice(METHODS), default=("pgd",), show_default=True,
    help="May be given several times.",
)  # fmt: skip
@click.option("--epsilons", default="0,1/255,2/255,4/255,8/255", show_default=True, callback=check_epsilons)
@method_options
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="So many images, at equal distances.")
@click.option("--batch-size", default=128, show_default=True, type=click.IntRange(min=1))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="Figure (SVG, PNG, PDF) with the results as JSON beside it, or JSON alone.",
)  # fmt: skip
@device_option
@json_option
def curve(
    names: tuple[str, ...],
    data: str,
    split: str,
    kinds: tuple[Any, ...],
    epsilons: list[float],
    steps: int,
    step_size: float,
    no_random_start: bool,
    seed: int,
    limit: int | None,
    batch_size: int,
    output: Path | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Measure accuracy over epsilon.

    An image counts where the network is right without the attack and with it. NAME without a tag
    stands for the model's default weights. What is finished is kept when you interrupt.
    """
    if "pgd_l2" in kinds and len(set(kinds)) > 1:
        raise click.UsageError(
            "pgd_l2 measures epsilon otherwise than the other attacks: give it a command of its own."
        )
    with only_answers():
        from zoo.attack import Method, figure, robustness
        from zoo.creation import create_trained
        from zoo.training import by_name

        if output is not None and output.suffix != ".json":
            figure.check_suffix(output)
            figure.require_matplotlib()
        options: dict[str, Any] = {"split": split, "limit": limit, "batch_size": batch_size}
        options["command"] = by_name.command_line()
        curves = []
        for name in names:
            model = create_trained(name, device=device)
            for kind in dict.fromkeys(kinds):
                method = Method(kind, steps, step_size, not no_random_start, seed)
                with show_progress(f"{kind} on {name}") as progress:
                    curves.append(robustness.curve(model, data, method, epsilons, progress=progress, **options))
                if output is not None:
                    robustness.write(curves, output.with_suffix(".json"))
        if output is not None and output.suffix != ".json":
            figure.draw_curves(curves, output)
    if as_json:
        return print_json(robustness.as_document(curves))
    _print(curves)
    return echo(output) if output is not None else None


def known_classes(data: str) -> tuple[str, ...]:
    """The names of the classes of a data set; none, with a remark, where they cannot be had."""
    from zoo.data.classes import class_names
    from zoo.errors import UnknownNameError

    try:
        return class_names(data) if data else ()
    except UnknownNameError as error:
        note(f"Classes are shown by number: {error}")
        return ()


def _print(curves: "list[Curve]") -> None:
    rows = [
        (
            found.weights or found.model,
            found.method.name,
            f"{255 * point.epsilon:.4g}/255" if found.method.name != "pgd_l2" else f"{point.epsilon:.4g}",
            f"{point.accuracy:.2f}%",
            f"{point.interval[0]:.2f} to {point.interval[1]:.2f}",
            f"{point.correct:,} of {found.n:,}",
        )
        for found in curves
        for point in found.points
    ]
    print_table(("weights", "attack", "epsilon", "right", "95% interval", "images"), rows, right=("epsilon", "right"))
    for text in dict.fromkeys(f"{found.dataset}/{found.split}: {found.fingerprint}" for found in curves):
        note(text)
