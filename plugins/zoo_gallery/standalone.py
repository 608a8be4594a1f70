"""A table of results as one chart in a file of its own: accuracy over cost, with the Pareto line."""

from collections.abc import Mapping, Sequence
from typing import Literal

from zoo.errors import DataError
from zoo.results.rows import Row, Speed
from zoo.system.amounts import count
from zoo_gallery import charts
from zoo_gallery.charts import Point
from zoo_gallery.markup import Markup, element

Cost = Literal["params", "macs", "time"]
COSTS: Mapping[Cost, str] = {"params": "parameters", "macs": "multiply-adds for one image", "time": "ms for one image"}
"""What accuracy is drawn over, and the title of its axis. Times are those of a table of speeds."""

_STYLE = """
svg { background: #fff; font-family: system-ui, sans-serif; font-size: 12px; }
.grid path { stroke: #ddd; } .grid text, .axis { fill: #555; }
.pareto { fill: none; stroke: #555; stroke-width: 1.5; stroke-dasharray: 5 4; }
.hollow { fill: #fff; } .whisker { stroke-width: 1.2; }
"""
_COLOURS = ("#0b62c4", "#c2410c", "#15803d", "#b01866", "#6d28d9", "#0e7490", "#854d0e", "#475569")
_WIDTH, _HEIGHT = 620, 400
_LINE = 18


def points(rows: Sequence[Row], speeds: Sequence[Speed], data: str, cost: Cost) -> tuple[list[Point], list[str]]:
    """A point for each of the weights that were evaluated on ``data``, such as ``cifar10/test``; and the families.

    Raises :class:`DataError` if there are none whose cost is known.
    """
    scored = [row for row in rows if row.task == "evaluate" and row.status == "done" and row.data == data]
    taken = {speed.key: 1000 / speed.images_per_s for speed in speeds if speed.images_per_s}
    families = sorted({row.family for row in scored})
    found = []
    for row in scored:
        x = taken.get(row.key) if cost == "time" else getattr(row, cost)
        if x and row.top1 is not None and row.low is not None and row.high is not None:
            label = f"{row.weights}: {row.top1:.2f}%, {amount(x, cost)} {COSTS[cost]}"
            found.append(Point(x, row.top1, label, "", families.index(row.family), (row.low, row.high)))
    if not found:
        raise DataError(
            f"The table has no evaluated weights on {data} whose {COSTS[cost]} are known.",
            hint=f"It has results on {', '.join(sets(rows)) or 'no data set'}.",
        )
    return found, families


def sets(rows: Sequence[Row]) -> list[str]:
    """The data sets on which weights were evaluated, those with most first."""
    names = [row.data for row in rows if row.task == "evaluate" and row.status == "done"]
    return sorted(set(names), key=lambda name: (-names.count(name), name))


def amount(value: float, cost: Cost) -> str:
    """``270 k`` or ``1.25``."""
    return f"{value:.3g}" if cost == "time" else count(round(value))


def svg(found: Sequence[Point], families: Sequence[str], data: str, cost: Cost) -> bytes:
    """The file: the chart, and a legend of the families below it."""
    chart = charts.scatter(
        found, x_title=COSTS[cost], y_title=f"top-1 on {data}, %", x_unit=lambda value: amount(value, cost)
    )
    chart = Markup(chart.replace("<svg ", f'<svg width="{_WIDTH}" height="{_HEIGHT}" ', 1))  # else it is centred
    colours = "".join(f".c{number} {{ fill: {it}; stroke: {it}; }}" for number, it in enumerate(_COLOURS))
    column, height = _WIDTH / 4, _HEIGHT + _LINE * -(-len(families) // 4) + 8
    legend = []
    for number, name in enumerate(families):
        x, y = 20 + column * (number % 4), _HEIGHT + 8 + _LINE * (number // 4)
        legend += [charts.marker(number, x, float(y)), element("text", name, x=x + 12, y=float(y + 4))]
    whole = element(
        "svg", element("style", Markup(_STYLE + colours)), chart, *legend,
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_WIDTH} {height}", width=_WIDTH, height=height,
    )  # fmt: skip
    return f"{whole}\n".encode()
