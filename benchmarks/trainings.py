"""Parallel training runs, each in its own process, resumed if they were interrupted."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

ZOO = (sys.executable, "-m", "zoo")
DIVERGED = "diverged.txt"


class Training(NamedTuple):
    """Arguments of ``zoo train``, and the run directory."""

    model: str
    directory: Path
    options: Sequence[str] = ()


def carry_out(trainings: Sequence[Training], *, data: str, jobs: int, threads: int = 1, is_scored: bool = True) -> None:
    """Trains all unfinished runs in order, ``jobs`` at a time, and scores them on test images unless told not to."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}

    def work(training: Training) -> None:
        weights, score = training.directory / "model.safetensors", training.directory / "score.json"
        if not weights.exists() and not has_diverged(training):
            train(training, data, environment)
        if is_scored and weights.exists() and not score.exists():  # test images are used once
            call = [*ZOO, "evaluate", training.model, "--data", data, "--weights", str(weights), "--json"]
            score.write_text(subprocess.run(call, env=environment, check=True, capture_output=True, text=True).stdout)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(work, trainings))


def train(training: Training, data: str, environment: Mapping[str, str]) -> None:
    """Trains to the end, or notes that the loss stopped being a number."""
    call = [*ZOO, "train", training.model, "--data", data, *training.options, "-o", str(training.directory)]
    is_begun = (training.directory / "config.json").exists()
    call = [*call, "--resume"] if is_begun else call
    with subprocess.Popen(call, env=environment, stderr=subprocess.PIPE, text=True) as process:
        said = ""
        for line in process.stderr or ():
            sys.stderr.write(line)
            said += line
    if "The loss became" in said:
        (training.directory / DIVERGED).write_text(said, encoding="utf-8")
    elif process.returncode:
        raise subprocess.CalledProcessError(process.returncode, call)


def has_diverged(training: Training) -> bool:
    """Returns whether the loss stopped being a number."""
    return (training.directory / DIVERGED).exists()


def log_of(directory: Path) -> list[dict[str, Any]]:
    """Returns the rows of the run's log, one per epoch."""
    return [json.loads(row) for row in (directory / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def score_of(directory: Path) -> dict[str, Any]:
    """Returns the run's evaluation report on the test split."""
    return dict(json.loads((directory / "score.json").read_text(encoding="utf-8")))
