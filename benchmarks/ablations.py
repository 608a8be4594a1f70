"""What single parts of networks and trainings are worth: the lecture's claims on CIFAR-10, with small budgets.

``python benchmarks/ablations.py EXPERIMENT... [-o RUNS] [--jobs N] [--seeds N] [--epochs N]`` trains each variant for
eight epochs, scores it on the test images once, and prints a table for each experiment. You can stop and restart it at
any time; variants that several experiments have in common are trained once.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from measure import table
from trainings import Training, carry_out, has_diverged, log_of, score_of

import zoo


class Variant(NamedTuple):
    """A network as ``zoo train`` builds and trains it; ``options`` are arguments of the command."""

    model: str
    options: Sequence[str] = ()


def vgg(configuration: str, *, norm: bool = True, lr: float = 0.1) -> Variant:
    """Returns a quarter of VGG's width, for 32x32 images."""
    built = (f"configuration={configuration!r}", "width=0.25", f"norm={str(norm).lower()}")
    options = [word for value in built for word in ("--arg", value)]
    return Variant("vgg16_bn_small", ("--recipe", "fast_c10", *options, "--set", f"lr={lr}"))


def alexnet(*options: str) -> Variant:
    return Variant("alexnet_small", ("--recipe", "short_c10", *options))


def googlenet(model: str = "googlenet_small", *options: str) -> Variant:
    return Variant(model, ("--recipe", "short_c10", *options))


PIXELS = (0, 1, 2, 4, 8)
USUAL = {"dropout 0.5, overlapping pools": alexnet()}
EXPERIMENTS: Mapping[str, Mapping[str, Variant]] = {
    # Simonyan and Zisserman 2014, table 3 and section 4.1
    "vgg": {
        "A (8 convolutions)": vgg("A"),
        "B (10)": vgg("B"),
        "B with 5x5 (5)": vgg("B_5x5"),
        "D (13)": vgg("D"),
        "E (16)": vgg("E"),
    },
    # Ioffe and Szegedy 2015, section 4.2: what normalisation does to the learning rates that work
    "norm": {
        f"{'' if norm else 'not '}normalised, rate {lr}": vgg("A", norm=norm, lr=lr)
        for norm in (True, False)
        for lr in (0.02, 0.1, 0.5)
    },
    # Krizhevsky et al. 2012, sections 3.3, 3.4, 4.1 and 4.2
    "alexnet": {
        **USUAL,
        "with response normalisation": alexnet("--arg", "lrn=true"),
        "separate pools": alexnet("--arg", "pooling='separate'"),
        "no dropout": alexnet("--arg", "drop_rate=0.0"),
        "PCA colours": alexnet("--set", "augment.pca_color=0.1"),
    },
    "pooling": {
        **USUAL,
        "separate pools": alexnet("--arg", "pooling='separate'"),
        "no pools, convolutions of stride 2": alexnet("--arg", "pooling='strided'"),
    },
    # Szegedy et al. 2014, sections 4 and 5
    "inception": {
        "reduced": googlenet(),
        "naive, at the same cost": googlenet("googlenet_small_naive"),
        "reduced, with auxiliary classifiers": googlenet("googlenet_small", "--arg", "aux=true"),
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "experiments", nargs="+", choices=EXPERIMENTS, metavar="EXPERIMENT", help=", ".join(EXPERIMENTS)
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/ablations"), help="folder for the runs")
    parser.add_argument("--jobs", type=int, default=2, help="number of parallel runs, with one thread each")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, from 0")
    parser.add_argument("--epochs", type=int, default=8)
    given = parser.parse_args()
    for experiment in given.experiments:
        runs = {
            label: [training(variant, given.output, seed, given.epochs) for seed in range(given.seeds)]
            for label, variant in EXPERIMENTS[experiment].items()
        }
        carry_out([run for seeds in zip(*runs.values(), strict=True) for run in seeds], data="cifar10", jobs=given.jobs)
        print(results(runs))
        if experiment == "pooling":
            print(moved(runs))


def training(variant: Variant, output: Path, seed: int, epochs: int) -> Training:
    """Returns the same directory for the same training, whatever the experiment."""
    words = [variant.model, *variant.options, str(epochs), str(seed)]
    name = "_".join(word.replace("'", "") for word in words if not word.startswith("--"))
    options = [*variant.options, "--set", f"epochs={epochs}", "--set", "warmup_epochs=1", "--set", f"seed={seed}"]
    return Training(variant.model, output / name, options)


def results(runs: Mapping[str, Sequence[Training]]) -> str:
    rows = []
    for label, seeds in runs.items():
        trained = [run.directory for run in seeds if not has_diverged(run)]
        if not trained:
            rows.append((label, "", "diverged", "", "", ""))
            continue
        scores = [score_of(directory) for directory in trained]
        logs = [log_of(directory) for directory in trained]
        rows.append(
            (
                label,
                f"{statistics.mean(log[-1]['train_top1'] for log in logs):.2f}",
                ", ".join(f"{score['top1']:.2f}" for score in scores),
                ", ".join("{:.2f} to {:.2f}".format(*score["interval"]) for score in scores),
                mean_and_deviation([score["top1"] for score in scores]),
                f"{statistics.mean(sum(row['seconds'] for row in log) for log in logs) / 60:.0f}",
            )
        )
    head = ("variant", "training images, %", "test images, % by seed", "95% interval of each")
    return table((*head, "mean ± standard deviation of seeds", "minutes on one core"), rows)


def mean_and_deviation(scores: Sequence[float]) -> str:
    """Returns the mean and the sample standard deviation; "" for one score, which has none.

    Seeds are scored on the same images, so counts over them make no interval of more images.
    """
    return f"{statistics.mean(scores):.2f} ± {statistics.stdev(scores):.2f}" if len(scores) > 1 else ""


def moved(runs: Mapping[str, Sequence[Training]]) -> str:
    """Measures top-1, and the similarity of features to those of the whole image, when images are moved to the
    right."""
    shifts, rows = {"translation": [pixels / 32 for pixels in PIXELS]}, []
    for label, seeds in runs.items():
        for run in (run for run in seeds if not has_diverged(run)):
            model = zoo.create(run.model, weights=run.directory / "model.safetensors")
            found = zoo.look.invariance([model], "cifar10", strengths=shifts, limit=10_000)
            scores = (f"{point.top1:.2f} ({point.similarity:.2f})" for point in found.points)
            rows.append((label, *scores))
    return table(("variant", *(f"{pixels} pixels" for pixels in PIXELS)), rows)


if __name__ == "__main__":
    main()
