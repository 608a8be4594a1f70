"""HMAX on Caltech-101 with the usual protocol: 15 training images per class, mean over classes, three draws.

A draw takes minutes on one core; you can stop and restart it at any time:
``python benchmarks/hmax.py [-o RUNS] [--prototypes N] [--draws N] [--per-class N]``.
"""

import argparse
import statistics
from pathlib import Path

from measure import table
from trainings import Training, carry_out, log_of, score_of


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/hmax"), help="folder for the runs")
    parser.add_argument("--prototypes", type=int, default=250, help="number for each of the four sizes")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--per-class", type=int, default=15, help="training images per class")
    given = parser.parse_args()
    rows, scores = [], []
    for draw in range(given.draws):
        directory = given.output / f"{given.prototypes}_{given.per_class}_{draw}"
        run = Training("hmax", directory, ["--arg", f"prototypes={given.prototypes}"])
        carry_out([run], data=f"caltech101:{given.per_class}:{draw}", jobs=1)
        score, (logged,) = score_of(directory), log_of(directory)
        scores.append(score["mean_class"])
        seconds = logged["seconds"] + score["seconds"]
        rows.append((str(draw), f"{score['mean_class']:.2f}", f"{score['top1']:.2f}", f"{seconds / 60:.1f}"))
    print(table(("draw", "mean over classes, %", "top-1, %", "minutes"), rows))
    if len(scores) > 1:
        print(f"{statistics.mean(scores):.2f} +- {statistics.stdev(scores):.2f} (standard deviation over draws)")


if __name__ == "__main__":
    main()
