"""``zoo attack image``, ``curve``: one image, a data set over epsilon."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli import options
from zoo.cli.output import echo, note, print_facts, print_json, print_table, show_progress, stdout_to_stderr
from zoo_attack.cli.options import (
    ATTACK,
    METHODS,
    check_epsilons,
    check_figure,
    figure_option,
    method_options,
)

if TYPE_CHECKING:
    from zoo_attack.robustness import Curve


@click.command(epilog="Example: zoo attack image resnet20.digits digit.png --epsilon 16/255")
@options.name
@click.argument("picture", metavar="IMAGE", type=options.FILE)
@click.option("--attack", "kind", type=ATTACK, default=METHODS[0], show_default=True, help="Attack to run.")
@click.option(
    "--epsilon", default="8/255", show_default=True, callback=check_epsilons, help="Bound of the change of a pixel."
)
@options.several(options.target, *method_options, options.seed, figure_option, options.device, options.json)
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

    Prints the prediction before, after, and for the attacked image stored with 8 bits. -o draws the image, the
    change and the result. Without --target, any other class will do.
    """
    if len(epsilon) != 1:
        raise click.BadParameter("expected one number.", param_hint="'--epsilon'")
    with stdout_to_stderr():
        from zoo.data.image_file import read_image
        from zoo.loading.create import create_trained, info_of
        from zoo_attack import Method, figure, pictures

        check_figure(output)
        method = Method(kind, steps, step_size, not no_random_start, seed)
        model = create_trained(name, device=device)
        info = info_of(model)
        from zoo.evaluation.prediction import class_names_of, class_number

        classes = class_names_of(model)
        number = None if target is None else class_number(target, classes)
        pixels = read_image(picture, str(picture), channels=info.preprocess.input_size[0])
        attacked = pictures.attack_picture(model, pixels, method, epsilon[0], target=number, classes=classes)
        if output is not None:
            figure.draw_picture(attacked, output, caption=f"{info.name} on {picture.name}, pixels in [0, 1]")
    predictions = {"before": attacked.before, "after": attacked.after, "stored": attacked.stored}
    if as_json:
        about = {"model": info.model.name, "weights": info.name, "image": picture, "epsilon": epsilon[0]}
        return print_json(
            {**about, "method": method, "target": number, **predictions, "files": [output] if output else []}
        )
    print_facts([("before", str(attacked.before)), ("after", str(attacked.after)), ("as 8 bits", str(attacked.stored))])
    return echo(output) if output is not None else None


@click.command(epilog="Example: zoo attack curve resnet20.digits --data digits -o curve.svg")
@options.several(options.names, options.data_sets, options.split)
@click.option(
    "--attack", "kinds", multiple=True, type=ATTACK, default=("pgd",), show_default=True,
    help="Attack to run. Repeatable.",
)  # fmt: skip
@click.option(
    "--epsilons", default="0,1/255,2/255,4/255,8/255", show_default=True, callback=check_epsilons,
    help="Bounds of the change of a pixel.",
)  # fmt: skip
@options.several(*method_options, options.seed, options.limit, options.batch_size(128))
@options.output("Draw the result into FILE: .svg, .png, .webp or .pdf.",
                kind=options.NEW_PATH, required=False)  # fmt: skip
@options.several(options.device, options.moved("zoo bulk attack-curve PATTERN... -o DIR"), options.json)
@click.pass_context
def curve(
    context: click.Context,
    names: tuple[str, ...],
    data: tuple[str, ...],
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

    An image counts if the network is right without and with the attack. -o also writes the results as JSON beside
    the figure, or only JSON to FILE.json; finished curves stay there after an interruption. NAME without a tag means
    the model's default weights.
    """
    if len(data) != 1:
        raise click.UsageError(f"Got {len(data)} data sets, expected one: --data NAME.")
    with stdout_to_stderr():
        from zoo.loading.create import create_trained
        from zoo.training import by_name
        from zoo_attack import Method, figure, robustness

        methods = [Method(kind, steps, step_size, not no_random_start, seed) for kind in dict.fromkeys(kinds)]
        if len({method.norm for method in methods}) > 1:
            [first, *_] = [method.name for method in methods if method.norm == "l2"]
            raise click.UsageError(
                f"{first} measures epsilon in another norm than the other attacks: run it on its own."
            )
        is_drawn = output is not None and output.suffix != ".json"
        check_figure(output if is_drawn else None)
        settings: dict[str, Any] = {"split": split, "limit": limit, "batch_size": batch_size}
        settings["command"] = by_name.command_line()
        curves = []
        for name in names:
            model = create_trained(name, device=device)
            for method in methods:
                with show_progress(f"{method.name} on {name}") as progress:
                    curves.append(robustness.curve(model, data[0], method, epsilons, progress=progress, **settings))
                if output is not None:
                    robustness.write(curves, output.with_suffix(".json"))
        if output is not None and is_drawn:
            figure.draw_curves(curves, output)
    if as_json:
        return print_json(robustness.as_document(curves))
    _print(curves)
    return echo(output) if output is not None else None


def _print(curves: "list[Curve]") -> None:
    rows = [
        (
            found.weights or found.model,
            found.method.name,
            f"{255 * point.epsilon:.4g}/255" if found.method.norm != "l2" else f"{point.epsilon:.4g}",
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


@click.command(epilog="Example: zoo attack series resnet20.digits --data digits -o series.json")
@options.several(options.name, options.required_data, options.split)
@click.option("--attack", "kind", type=ATTACK, default="pgd", show_default=True, help="Attack to run.")
@click.option(
    "--epsilons", default="0.5/255,1/255,2/255,4/255,8/255", show_default=True, callback=check_epsilons,
    help="Bounds of the change of a pixel.",
)  # fmt: skip
@options.several(*method_options, options.seed)
@click.option(
    "--limit", default=8, show_default=True, type=options.POSITIVE, metavar="N", help="Attack N evenly spaced images."
)
@options.output("Write pictures and predictions to FILE.json.")
@options.several(options.device, options.json)
def series(
    name: str,
    data: str,
    kind: Any,
    epsilons: list[float],
    steps: int,
    step_size: float,
    no_random_start: bool,
    seed: int,
    output: Path,
    as_json: bool,
    **asked: Any,
) -> None:
    """Attack a few images at several epsilons, for zoo gallery build --failures.

    The predictions are for the attacked images stored with 8 bits, and for the images themselves.
    """
    with stdout_to_stderr(), show_progress(f"{kind} on {name}") as progress:
        import msgspec

        from zoo.system import storage
        from zoo.training import by_name
        from zoo_attack import Method
        from zoo_attack.pictures import attack_series

        method = Method(kind, steps, step_size, not no_random_start, seed)
        settings = {**asked, "progress": progress, "command": by_name.command_line()}
        result = attack_series(name, data, method, epsilons, **settings)
        storage.replace(output, msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    if as_json:
        return print_json({"file": output, "epsilons": result.epsilons, "attacked": result.attacked})
    titles = [f"{255 * epsilon:.4g}/255" for epsilon in result.epsilons]
    rows = [(str(one.image), *(str(said) for said in one.said)) for one in result.attacked]
    print_table(("image", *titles), rows, right=("image",))
    return echo(output)
