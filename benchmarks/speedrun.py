"""The airbench94 recipe: accuracy, operations and time for several seeds.

Jordan 2024, arXiv 2404.00498. Operations are those that torch's FlopCounter counts in the forward and
backward pass of a step, with and without a gradient for the first layer's bias, times the number of steps.
``python benchmarks/speedrun.py [-o RUNS] [--seeds N] [--jobs N] [--threads N]``.
"""

import argparse
import statistics
from pathlib import Path

import torch
from measure import table
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from trainings import Training, carry_out, log_of, score_of

import zoo
from zoo_speedrun.constants import Constants

MODEL = "airbench94"
RECORD = {"operations": 0.36e15, "top1": 94.01}
"""The published results of legacy/airbench94.py."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/speedrun"), help="folder for the runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="number of parallel runs")
    parser.add_argument("--threads", type=int, default=2, help="threads per run")
    given = parser.parse_args()
    runs = [given.output / f"seed{seed}" for seed in range(given.seeds)]
    trainings = [Training(MODEL, run, ("--set", f"seed={seed}")) for seed, run in enumerate(runs)]
    carry_out(trainings, data="cifar10", jobs=given.jobs, threads=given.threads)
    print(results(runs))


def results(runs: list[Path]) -> str:
    rows, scores = [], []
    for seed, run in enumerate(runs):
        log, score = log_of(run), score_of(run)
        done = operations(len(log), steps=log[0]["step"])
        scores.append(score["top1"])
        rows.append(
            (
                str(seed),
                f"{score['top1']:.2f} ({score['correct']:,} of {score['n']:,})",
                f"{done / 1e15:.3f}, {done / RECORD['operations']:.2f} of the record's",
                f"{sum(row['seconds'] for row in log):.0f}",
            )
        )
    rows.append(("mean", f"{statistics.mean(scores):.2f} (published: {RECORD['top1']})", "", ""))
    return table(("seed", "top-1, %", "PFLOP", "seconds"), rows)


def operations(epochs: int, *, steps: int, batch_size: int = 1024) -> int:
    """Counts the floating-point operations of a training run, two per multiply-add."""
    first = min(epochs, Constants().bias_epochs)
    return steps * batch_size * (first * _of_an_image(learns=True) + (epochs - first) * _of_an_image(learns=False))


def _of_an_image(*, learns: bool) -> int:
    """Counts the forward and backward pass, while the first layer's bias ``learns`` and after."""
    model = zoo.create(MODEL)
    model.whiten.bias.requires_grad_(learns)
    images, labels = torch.randn(2, 3, 32, 32), torch.zeros(2, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(images), labels).backward()
    return int(counter.get_total_flops()) // len(images)


if __name__ == "__main__":
    main()
