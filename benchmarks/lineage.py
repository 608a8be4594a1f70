"""The lineage with one budget: a small network of each family, eight epochs on CIFAR-10.

All use the same recipe (``short_c10``; ``degradation_c10`` of the residual networks is the same; AlexNet,
which has no normalisation, uses a fifth of the learning rate). Prints a table of the families, of the columns of
FractalNet, and of stochastic depth. Takes hours on two cores; you can stop and restart it at any time:
``python benchmarks/lineage.py [-o RUNS] [--jobs N]``.
"""

import argparse
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from measure import table
from trainings import ZOO, Training, carry_out, log_of, score_of

import zoo

RECIPES = {"resnet20": "degradation_c10", "resnet56": "degradation_c10"}
LOCAL = "fractalnet20_narrow_local"
FAMILIES = (
    "alexnet_small", "googlenet_small", "resnet20", "resnet56", "densenet_bc_40_12", "fractalnet20_narrow",
    "ror3_56", "ror3_56_sd",
)  # fmt: skip
DEPTH = ("resnet56", "resnet56_sd", "ror3_56", "ror3_56_sd")
MODULES = ("googlenet_small_naive", "googlenet_small")
FRACTALS = {"fractalnet20_narrow": "local and global, as published", LOCAL: "local alone"}
COLUMNS = (1, 2, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/lineage"), help="folder for the runs")
    parser.add_argument("--jobs", type=int, default=2, help="number of parallel runs, with one thread each")
    given = parser.parse_args()
    carry_out([training(name, given.output) for name in runs()], data="cifar10", jobs=given.jobs)
    head = ("network", "parameters", "multiply-adds", "epochs", "top-1, %", "95% interval")
    for names in (FAMILIES, MODULES, DEPTH):
        print(table(head, [row(name, given.output) for name in names]))
    print(table(("drop-path in training", "whole network", *map("column {}".format, COLUMNS)), fractals(given.output)))


def runs() -> Iterable[str]:
    """Returns each run once, the longest first, so that none runs alone at the end."""
    names = dict.fromkeys((*FAMILIES, *MODULES, *DEPTH, *FRACTALS))
    return sorted(names, key=lambda name: zoo.info(architecture(name))["macs"], reverse=True)


def architecture(run: str) -> str:
    return "fractalnet20_narrow" if run == LOCAL else run


def training(run: str, output: Path) -> Training:
    options = ["--recipe", RECIPES.get(run, "short_c10"), *(["--arg", "global_share=0"] if run == LOCAL else [])]
    return Training(architecture(run), output / run, options)


def row(run: str, output: Path) -> tuple[str, ...]:
    about, log, score = zoo.info(architecture(run)), log_of(output / run), score_of(output / run)
    return (
        run,
        f"{about['params']:,}",
        f"{about['macs'] / 1e6:.1f} M",
        str(log[-1]["epoch"]),
        f"{score['top1']:.2f}",
        "{:.2f} to {:.2f}".format(*score["interval"]),
    )


def fractals(output: Path) -> list[tuple[str, ...]]:
    """Scores of the whole network and of each column, the shallowest first."""
    return [
        (
            how,
            f"{score_of(output / run)['top1']:.2f}",
            *(f"{column_score(output / run, column)['top1']:.2f}" for column in COLUMNS),
        )
        for run, how in FRACTALS.items()
    ]


def column_score(directory: Path, column: int) -> dict[str, Any]:
    """Returns the report of one column on the test split, measured once."""
    kept = directory / f"column{column}.json"
    if not kept.exists():
        call = [*ZOO, "evaluate", "fractalnet20_narrow", "--weights", str(directory / "model.safetensors"), "--json"]
        call += ["--data", "cifar10", "--arg", f"column={column}"]
        kept.write_text(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
    return dict(json.loads(kept.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
