"""What settings of a recipe are worth: a small network, three seeds, scored on held-out training images.

Trains ResNet-8 on CIFAR-10 for six epochs, plainly, with each setting alone and with all of them. 5,000 training images
are held out and scored after the last epoch; no test image is looked at. You can stop and restart it at any time:
``python benchmarks/settings.py [-o RUNS] [--jobs N]``.
"""

import argparse
import statistics
from pathlib import Path

from measure import table
from trainings import Training, carry_out, log_of

MODEL = "resnet8"
PLAIN = ("--recipe", "fast_c10", "--set", "epochs=6", "--set", "warmup_epochs=1", "--set", "validation=5000")
REFLECT = ("--set", "augment.padding=reflect")
ALTERNATE = ("--set", "augment.flip=alternate")
LOOKAHEAD = ("--set", "lookahead.every=5")
PROGRESSIVE = ("--set", "progressive.initial_scale=0.625", "--set", "progressive.full_share=0.3")
SETTINGS = {
    "plain": (),
    "reflect": REFLECT,
    "alternate": ALTERNATE,
    "lookahead": LOOKAHEAD,
    "progressive": PROGRESSIVE,
    "all": (*REFLECT, *ALTERNATE, *LOOKAHEAD, *PROGRESSIVE),
}
SEEDS = (0, 1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/settings"), help="folder for the runs")
    parser.add_argument("--jobs", type=int, default=2, help="number of parallel runs, with one thread each")
    given = parser.parse_args()
    trainings = [
        Training(MODEL, given.output / f"{name}.{seed}", (*PLAIN, *options, "--set", f"seed={seed}"))
        for seed in SEEDS
        for name, options in SETTINGS.items()
    ]
    carry_out(trainings, data="cifar10", jobs=given.jobs, is_scored=False)
    print(results(given.output))


def results(runs: Path) -> str:
    """Returns top-1 of the held-out images for each seed, the mean and its difference from the plain recipe's."""
    rows = []
    plain = [log_of(runs / f"plain.{seed}")[-1]["val_top1"] for seed in SEEDS]
    for name in SETTINGS:
        logs = [log_of(runs / f"{name}.{seed}") for seed in SEEDS]
        scores = [log[-1]["val_top1"] for log in logs]
        gains = [score - other for score, other in zip(scores, plain, strict=True)]
        rows.append(
            (
                name,
                ", ".join(f"{score:.2f}" for score in scores),
                f"{statistics.mean(scores):.2f}",
                f"{statistics.mean(gains):+.2f} ± {statistics.stdev(gains):.2f}",
                f"{statistics.mean(sum(row['seconds'] for row in log) for log in logs) / 60:.1f}",
            )
        )
    return table(("setting", "held-out top-1, three seeds", "mean", "gain", "minutes on one core"), rows)


if __name__ == "__main__":
    main()
