"""The degradation experiment: deeper plain networks train worse, deeper residual networks better.

He et al. 2015, figure 6. Trains plain-20/32/44/56 and resnet-20/32/44/56 on CIFAR-10 with one recipe
and draws both families' curves. Takes hours on two cores; you can stop and restart it at any time:
``python benchmarks/degradation.py [-o RUNS] [--recipe NAME] [--depth N]... [--jobs N] [--figure FILE.svg]``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from measure import table
from trainings import Training, carry_out, log_of, score_of

KINDS = {"plain": "plain", "resnet": "residual"}
SHADES = {20: "#c6c6c6", 32: "#8ab6d6", 44: "#3f7fb5", 56: "#12355b"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/degradation"), help="folder for the runs")
    parser.add_argument("--recipe", default="degradation_c10", help="eight epochs, or progressive_c10, thirty")
    parser.add_argument("--depth", type=int, choices=SHADES, action="append", help="layers; repeatable")
    parser.add_argument("--jobs", type=int, default=2, help="number of parallel runs, with one thread each")
    parser.add_argument("--figure", type=Path, help="file of the figure (SVG or PNG)")
    given = parser.parse_args()
    depths = sorted(set(given.depth or SHADES))
    trainings = [
        Training(f"{kind}{depth}", given.output / f"{kind}{depth}", ("--recipe", given.recipe))
        for depth in reversed(depths)  # the longest first, so that none runs alone at the end
        for kind in KINDS
    ]
    carry_out(trainings, data="cifar10", jobs=given.jobs)
    print(results(given.output, depths))
    if given.figure:
        draw(given.output, depths, given.figure)


def results(runs: Path, depths: Sequence[int]) -> str:
    """Final errors in per cent, on augmented training images and on test images."""
    rows = []
    for kind in KINDS:
        for depth in depths:
            log, score = log_of(runs / f"{kind}{depth}"), score_of(runs / f"{kind}{depth}")
            low, high = (100 - bound for bound in reversed(score["interval"]))
            rows.append(
                (
                    f"{kind}{depth}",
                    f"{100 - log[-1]['train_top1']:.2f}",
                    f"{100 - score['top1']:.2f}",
                    f"{low:.2f} to {high:.2f}",
                    f"{sum(row['seconds'] for row in log) / 60:.0f}",
                )
            )
    return table(("network", "training error", "test error", "95%", "minutes on one core"), rows)


def draw(runs: Path, depths: Sequence[int], file: Path) -> None:
    """Training error by epoch in a panel for each family, and the final test error as a dot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, (kind, title) in zip(panels, KINDS.items(), strict=True):
        for depth in depths:
            shade = SHADES[depth]
            log = log_of(runs / f"{kind}{depth}")
            epochs = [row["epoch"] for row in log]
            panel.plot(epochs, [100 - row["train_top1"] for row in log], color=shade, label=f"{depth} layers")
            panel.plot(epochs[-1] + 0.25, 100 - score_of(runs / f"{kind}{depth}")["top1"], "o", color=shade, ms=5)
        panel.set(title=f"{title} networks", xlabel="epoch", ylim=(0, 80))
        panel.grid(color="#eeeeee")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("error on CIFAR-10, %")
    panels[1].legend(title="lines: training; dots: test", frameon=False)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
