"""The degradation experiment: deeper plain networks train worse, deeper residual networks better.

He et al. 2015, figure 6. Trains plain-20/32/44/56 and resnet-20/32/44/56 on CIFAR-10 with one recipe
and draws both families' curves. Takes hours on two cores; you can stop and restart it at any time:
``python benchmarks/degradation.py [-o RUNS] [--recipe NAME] [--depth N]... [--jobs N] [--figure FILE.svg]``.
With ``--published`` it trains nothing and takes the curves from the manifests of the weights.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from measure import table
from trainings import Training, carry_out, log_of, score_of

import zoo
from zoo.statistics import wilson

DATA = "cifar10"
KINDS = {"plain": "plain", "resnet": "residual"}
SHADES = {20: "#c6c6c6", 32: "#8ab6d6", 44: "#3f7fb5", 56: "#12355b"}


class Curve(NamedTuple):
    """Top-1 in per cent on augmented training images in each epoch; right answers of ``n`` test images at the end."""

    train: Sequence[float]
    correct: int
    n: int


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/degradation"), help="folder for the runs")
    parser.add_argument("--recipe", default="progressive_c10", help="thirty epochs, or degradation_c10, eight")
    parser.add_argument("--depth", type=int, choices=SHADES, action="append", help="layers; repeatable")
    parser.add_argument("--jobs", type=int, default=2, help="number of parallel runs, with one thread each")
    parser.add_argument("--published", action="store_true", help="train nothing; read the manifests")
    parser.add_argument("--figure", type=Path, help="file of the figure (SVG or PNG)")
    given = parser.parse_args()
    depths = sorted(set(given.depth or SHADES))
    if given.published:
        curves = {name: published(name, given.recipe) for name in names(depths)}
    else:
        trainings = [
            Training(name, given.output / name, ("--recipe", given.recipe))
            for depth in reversed(depths)  # the longest first, so that none runs alone at the end
            for name in names([depth])
        ]
        carry_out(trainings, data=DATA, jobs=given.jobs)
        curves = {name: trained(given.output / name) for name in names(depths)}
    print(results(curves))
    if given.figure:
        draw(curves, depths, given.figure)


def names(depths: Sequence[int]) -> list[str]:
    return [f"{kind}{depth}" for kind in KINDS for depth in depths]


def trained(run: Path) -> Curve:
    score = score_of(run)
    return Curve([row["train_top1"] for row in log_of(run)], score["correct"], score["n"])


def published(name: str, recipe: str) -> Curve:
    """Returns the curve of the weights that were trained by ``recipe``."""
    for weights in zoo.info(name)["weights"]:
        if weights["origin"].endswith(f"on {DATA} with recipe {recipe}") and "history" in weights:
            score = weights["scores"][f"{DATA}/test"]
            return Curve(weights["history"]["train_top1"], score["correct"], score["n"])
    raise SystemExit(f"No weights of {name} are published with the curve of {recipe}.")


def results(curves: Mapping[str, Curve]) -> str:
    """Returns final errors in per cent, on augmented training images and on test images."""
    rows = []
    for name, curve in curves.items():
        low, high = (100 - 100 * bound for bound in reversed(wilson(curve.correct, curve.n)))
        error = 100 - 100 * curve.correct / curve.n
        rows.append((name, f"{100 - curve.train[-1]:.2f}", f"{error:.2f}", f"{low:.2f} to {high:.2f}"))
    return table(("network", "training error, %", "test error, %", "95% interval"), rows)


def draw(curves: Mapping[str, Curve], depths: Sequence[int], file: Path) -> None:
    """Draws the training error by epoch in a panel for each family, and the final test error as a dot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, (kind, title) in zip(panels, KINDS.items(), strict=True):
        for depth in depths:
            shade = SHADES[depth]
            train, correct, n = curves[f"{kind}{depth}"]
            panel.plot(range(1, len(train) + 1), [100 - top1 for top1 in train], color=shade, label=f"{depth} layers")
            panel.plot(len(train) + 0.25, 100 - 100 * correct / n, "o", color=shade, ms=5)
        panel.set(title=f"{title} networks", xlabel="epoch", ylim=(0, 80))
        panel.grid(color="#eeeeee")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("error on CIFAR-10, %")
    panels[1].legend(title="lines: training; dots: test", frameon=False)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
