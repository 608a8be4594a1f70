"""Draws docs/accuracy.svg from the manifests: ``python docs/accuracy.py [DATA] [FILE]``.

A point for each embedded weight scored on DATA: its error with the 95% interval over its number of parameters.
"""

import sys
from pathlib import Path

from matplotlib.ticker import FuncFormatter

from zoo import registry
from zoo.registry.listing import params_of
from zoo.statistics import wilson
from zoo_look.result import drawn, new_figure


def points(data: str) -> dict[str, list[tuple[str, int, float, float, float]]]:
    """Returns by family: name and epochs, parameters, error and the ends of its interval, in per cent."""
    found: dict[str, list[tuple[str, int, float, float, float]]] = {}
    for entry in registry.current().models():
        for weights in entry.weights:
            score = weights.scores.get(f"{data}/test")
            if score is None or score.correct is None or not weights.hub.startswith("embedded:"):
                continue
            low, high = (100 * share for share in wilson(score.n - score.correct, score.n))
            error = 100 - 100 * score.correct / score.n
            name = weights.name + (f" ({weights.epochs} epochs)" if weights.epochs else "")
            name += f", trainings {score.spread.words}" if score.spread else ""
            params = params_of(entry.model, weights)
            found.setdefault(entry.row.name, []).append((name, params, error, low, high))
    return found


def main(data: str = "cifar10", file: str = str(Path(__file__).with_name("accuracy.svg"))) -> None:
    figure = new_figure(8, 5, f"Embedded weights on {data}: test error (95% interval) over parameters")
    axis = figure.subplots()
    for number, (family, rows) in enumerate(sorted(points(data).items())):
        names, params, errors, lows, highs = zip(*rows, strict=True)
        reach = [[e - low for e, low in zip(errors, lows, strict=True)]]
        reach += [[high - e for e, high in zip(errors, highs, strict=True)]]
        marker = "os^vD<>PX*"[number % 10]
        axis.errorbar(params, errors, reach, fmt=marker, ms=5, lw=1, label=family)
        for name, x, y in zip(names, params, errors, strict=True):
            axis.annotate(name, (x, y), xytext=(4, 3), textcoords="offset points", fontsize=5)
    axis.set(xscale="log", yscale="log", xlabel="parameters", ylabel="error, %")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.tick_params(labelsize=7, which="both")
    axis.grid(color="#eeeeee")
    axis.legend(fontsize=7, frameon=False)
    Path(file).write_bytes(drawn(figure, Path(file).suffix))


if __name__ == "__main__":
    main(*sys.argv[1:])
