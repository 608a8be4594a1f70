"""``zoo attack series``: a few images at several epsilons."""

from pathlib import Path
from typing import Any

import click

from zoo.cli import options
from zoo.cli.output import echo, print_json, print_table, show_progress, stdout_to_stderr
from zoo_attack.cli.options import ATTACK, check_epsilons, method_options


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
        from zoo_attack.series import attack_series

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
