"""Options that the commands of ``zoo attack`` share, and checks that run before any work."""

from pathlib import Path

import click

from zoo.cli import options
from zoo.errors import ZooError

METHODS = ("fgsm", "pgd", "pgd_l2", "autoattack", "random_sign")
"""The methods of ``zoo_attack.method``, which may be imported only once a command runs."""

ATTACK = options.Named("attacks", METHODS)
"""The type of ``--attack``."""


def check_epsilons(context: click.Context, parameter: click.Parameter, value: str) -> list[float]:
    """Numbers separated by commas, such as ``0,1/255,2/255``."""
    from zoo_attack.method import read_epsilon

    try:
        return [read_epsilon(part.strip()) for part in value.split(",")]
    except ZooError as error:
        raise click.BadParameter(error.message) from None


method_options = (
    click.option("--steps", default=20, show_default=True, type=options.POSITIVE, help="Steps of PGD."),
    click.option(
        "--step-size", default=0.0, type=click.FloatRange(min=0),
        help="Step size of PGD, times epsilon.  [default: 2.5 / steps]",
    ),
    click.option("--no-random-start", is_flag=True, help="Start PGD at the image itself."),
)  # fmt: skip
METHOD_PARAMETERS = ("steps", "step_size", "no_random_start")

figure_option = options.output("Draw the result into FILE: .svg, .png, .webp or .pdf.", required=False)


def check_figure(output: Path | None) -> None:
    """Raises before the work where ``output`` could not be drawn after it."""
    from zoo_attack import figure

    if output is not None:
        figure.check_suffix(output)
        figure.require_matplotlib()
