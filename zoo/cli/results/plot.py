"""``zoo results plot``: accuracy against cost."""

from collections.abc import Sequence
from math import log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli import options
from zoo.cli.output import echo, print_json, print_table

if TYPE_CHECKING:
    from zoo_gallery.charts import Point

_WIDTH, _HEIGHT = 60, 16


@click.command(epilog="Example: zoo results plot runs/results.csv --svg accuracy.svg")
@click.argument("file", type=options.FILE)
@click.option("--data", metavar="DATA/SPLIT", help="Data set.  [default: the one with most results]")
@options.choice("--cost", values=["params", "macs", "time"], help="What to plot top-1 over; time is in speed.csv.")
@click.option("--svg", type=options.NEW_FILE, metavar="FILE", help="Also draw into FILE.")
@options.json
def plot(file: Path, data: str | None, cost: Any, svg: Path | None, as_json: bool) -> None:
    """Plot accuracy against cost, with the Pareto line.

    Draws in the terminal: * is on the line, o is not. Then lists the weights on the line: no others have at least
    their accuracy at lower cost.
    """
    from zoo.results import files
    from zoo.system import storage
    from zoo_gallery import charts, standalone

    rows = files.read(file)
    data = data or next(iter(standalone.sets(rows)), "")
    speeds = files.read_speed(file.with_name(files.SPEED)) if cost == "time" else []
    points, families = standalone.points(rows, speeds, data, cost)
    best = charts.pareto(points)
    if svg is not None:
        storage.replace(svg, standalone.svg(points, families, data, cost))
    if as_json:
        line = [{"weights": _name(point), "top1": point.y, "cost": point.x} for point in best]
        return print_json({"data": data, "cost": cost, "points": len(points), "pareto": line, "svg": svg})
    echo(f"top-1 on {data}, % over {standalone.COSTS[cost]}")
    echo("\n".join(_drawn(points, best, lambda value: standalone.amount(value, cost))))
    cells = [(_name(point), f"{point.y:.2f}%", standalone.amount(point.x, cost)) for point in best]
    return print_table(("on the line", "top-1", cost), cells, right=("top-1", cost))


def _name(point: "Point") -> str:
    return point.label.partition(":")[0]


def _drawn(points: "Sequence[Point]", best: "Sequence[Point]", unit: Any) -> list[str]:
    """The lines of a chart in text, cost on a logarithmic axis."""
    left, right = log10(min(point.x for point in points)), log10(max(point.x for point in points))
    low, high = min(point.y for point in points), max(point.y for point in points)
    cells = [[" "] * (_WIDTH + 1) for _ in range(_HEIGHT + 1)]
    for point in [*points, *best]:
        x = round((log10(point.x) - left) / (right - left or 1) * _WIDTH)
        y = round((high - point.y) / (high - low or 1) * _HEIGHT)
        cells[y][x] = "*" if point in best else "o"
    titles = {0: f"{high:.2f}", _HEIGHT: f"{low:.2f}"}
    width = max(map(len, titles.values()))
    lines = [f"{titles.get(y, ''):>{width}} |{''.join(row).rstrip()}" for y, row in enumerate(cells)]
    first, last = unit(10**left), unit(10**right)
    axis = [f"+{'-' * (_WIDTH + 1)}", f" {first}{last:>{_WIDTH + 1 - len(first)}}"]
    return [*lines, *(f"{'':>{width}} {line}" for line in axis)]
