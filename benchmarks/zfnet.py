"""Zeiler and Fergus's diagnosis of AlexNet: 11x11 filters of stride 4 against 7x7 filters of stride 2, both trained.

Trains AlexNet (as one group, so that only the first two layers differ) and ZFNet on Caltech-101, 30 images per class,
at 112 pixels, and prints scores, frequencies and dead filters of the first layers. You can stop and restart it at any
time: ``python benchmarks/zfnet.py [-o RUNS] [--jobs N] [--seeds N]``.
"""

import argparse
from pathlib import Path

from measure import table
from trainings import Training, carry_out, score_of

import zoo

DATA = "caltech101:30:0"
BUDGET = (
    "epochs=40",
    "decay_epochs=[27,37]",
    "batch_size=32",  # with 128, there are too few updates to leave the plateau at the start
    "input_size=112",
    "precision=bfloat16",
    "weight_decay=5e-4",
)
NETWORKS = {
    "alexnet": ("11x11, stride 4", ("--recipe", "paper_in1k", "--arg", "groups=1")),
    "zfnet": ("7x7, stride 2", ("--recipe", "paper_in1k_zfnet", "--set", "augment.pca_color=0.1")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/zfnet"), help="folder for the runs")
    parser.add_argument("--jobs", type=int, default=2, help="number of parallel runs, with one thread each")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, from 0")
    given = parser.parse_args()
    budget = [word for value in BUDGET for word in ("--set", value)]
    trainings = [
        Training(name, given.output / f"{name}.{seed}", (*options, *budget, "--set", f"seed={seed}"))
        for seed in range(given.seeds)
        for name, (_, options) in NETWORKS.items()
    ]
    carry_out(trainings, data=DATA, jobs=given.jobs)
    rows = []
    for training in trainings:
        facts = zoo.look.diagnose(training.model, weights=str(training.directory / "model.safetensors")).facts()
        score = score_of(training.directory)
        rows.append(
            (
                training.directory.name,
                NETWORKS[training.model][0],
                f"{score['top1']:.2f}",
                *(f"{facts[band]:.0%}" for band in ("low", "middle", "high", "aliased")),
                f"{facts['dead']} of {facts['filters']}",
            )
        )
    print(table(("run", "first layer", "top-1, %", "low", "middle", "high", "aliased", "dead filters"), rows))


if __name__ == "__main__":
    main()
