"""Zeiler and Fergus's diagnosis of AlexNet: 11x11 filters of stride 4 against 7x7 filters of stride 2, both trained.

Trains AlexNet (as one group, so that only the first two layers differ) and ZFNet on Caltech-101, 30 images per class,
at 112 pixels, and prints scores, frequencies and dead filters of the first layers, before training too. Both start from
torch's initial weights and learn by AdamW: with the papers' weights and SGD, AlexNet has learned nothing after 475
updates of 32 images. You can stop and restart it at any time:
``python benchmarks/zfnet.py [-o RUNS] [--jobs N] [--seeds N]``.
"""

import argparse
from pathlib import Path

import torch
from measure import table
from torch import nn
from trainings import Training, carry_out, score_of

import zoo

DATA = "caltech101:30:0"
BUDGET = (
    "epochs=40",
    "decay_epochs=[27,37]",
    "batch_size=64",
    "optimizer=adamw",
    "lr=0.0002",
    "input_size=112",
    "precision=bfloat16",
    "weight_decay=0.05",
)
NETWORKS = {
    "alexnet": ("11x11, stride 4", ("--recipe", "paper_in1k", "--arg", "init=torch", "--arg", "groups=1")),
    "zfnet": (
        "7x7, stride 2",
        ("--recipe", "paper_in1k_zfnet", "--arg", "init=torch", "--set", "augment.pca_color=0.1"),
    ),
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
    rows = [(f"{name}, untrained", NETWORKS[name][0], "", *spectrum(untrained(name))) for name in NETWORKS]
    for training in trainings:
        spectra = spectrum(training.model, weights=str(training.directory / "model.safetensors"))
        score = score_of(training.directory)
        low, high = score["interval"]
        found = f"{score['top1']:.2f} ({low:.2f} to {high:.2f})"
        rows.append((training.directory.name, NETWORKS[training.model][0], found, *spectra))
    print(table(("run", "first layer", "top-1, % (95%)", "low", "middle", "high", "aliased", "dead filters"), rows))


def untrained(name: str) -> nn.Module:
    """Returns the network with a first layer like those that training starts from."""
    torch.manual_seed(0)
    return zoo.create(name, init="torch")


def spectrum(model: str | nn.Module, **args: str) -> list[str]:
    """Shares of the first layer's energy by frequency, the share that its stride aliases, and dead filters."""
    facts = zoo.look.diagnose(model, **args).facts()
    return [
        *(f"{facts[band]:.0%}" for band in ("low", "middle", "high", "aliased")),
        f"{facts['dead']} of {facts['filters']}",
    ]


if __name__ == "__main__":
    main()
