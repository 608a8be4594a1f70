"""``zoo calibrate``: the temperature that makes a network as certain as it is right."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli import options
from zoo.cli.output import echo, print_facts, print_json, print_table, show_progress, stdout_to_stderr

if TYPE_CHECKING:
    from zoo.evaluation.calibration import Calibration


@click.command(epilog="Example: zoo calibrate resnet20.digits --hold-out 180")
@click.argument("source", metavar="NAME|FILE", shell_complete=options.complete_name)
@options.several(options.data, options.split)
@click.option(
    "--hold-out", "count", type=options.POSITIVE, metavar="N",
    help="Fit on N images of the split, and report on the others.  [default: those held out by the training]",
)  # fmt: skip
@options.several(options.weights, options.batch_size(256), options.device, options.json)
def calibrate(source: str, data: str | None, split: str, count: int | None, as_json: bool, **keywords: Any) -> None:
    """Fit a temperature on held-out images.

    Prints cross-entropy (nll), expected calibration error (ece) and Brier score before and after, with 95% bootstrap
    intervals, on images that were not used to fit. FILE has outputs that zoo evaluate --outputs wrote.
    """
    from zoo.evaluation import calibration

    file = Path(source)
    if file.suffix == ".safetensors":
        if count is None:
            raise click.UsageError("--hold-out N is needed for a file of outputs.")
        found, fitted = calibration.calibrate_file(file, count)
    else:
        with stdout_to_stderr(), show_progress(f"evaluating {source}") as progress:
            found, fitted = calibration.calibrate_network(source, data, split, count, progress=progress, **keywords)
    if as_json:
        import msgspec

        return print_json(msgspec.to_builtins(found) | {"fitted": fitted})
    return _print(source, found, fitted)


def _print(name: str, found: "Calibration", fitted: str) -> None:
    echo(name)
    print_facts([("temperature", f"{found.temperature:.4f}"), ("fitted on", fitted)])
    echo(f"\non {found.n:,} images, {found.correct:,} correct with any temperature")
    rows = [
        (
            one.name,
            _number(one.before, one.before_interval),
            _number(one.after, one.after_interval),
            _number(one.change, one.change_interval),
        )
        for one in found.measures
    ]
    print_table(("measure", "before", "after", "change"), rows)


def _number(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.4f} ({interval[0]:.4f} to {interval[1]:.4f})"
