"""Parallel training runs, each in its own process, resumed if they were interrupted."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

ZOO = (sys.executable, "-m", "zoo")


class Training(NamedTuple):
    """Arguments of ``zoo train``, and the run directory."""

    model: str
    directory: Path
    options: Sequence[str] = ()


def carry_out(trainings: Sequence[Training], *, data: str, jobs: int, threads: int = 1, is_scored: bool = True) -> None:
    """Trains all unfinished runs in order, ``jobs`` at a time, and scores them on test images unless told not to."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}

    def work(training: Training) -> None:
        if not (training.directory / "model.safetensors").exists():
            is_begun = (training.directory / "config.json").exists()
            call = [*ZOO, "train", training.model, "--data", data, *training.options, "-o", str(training.directory)]
            subprocess.run([*call, "--resume"] if is_begun else call, env=environment, check=True)
        score = training.directory / "score.json"
        if is_scored and not score.exists():  # test images are used once
            weights = training.directory / "model.safetensors"
            call = [*ZOO, "evaluate", training.model, "--data", data, "--weights", str(weights), "--json"]
            score.write_text(subprocess.run(call, env=environment, check=True, capture_output=True, text=True).stdout)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(work, trainings))


def log_of(directory: Path) -> list[dict[str, Any]]:
    """The rows of the run's log, one per epoch."""
    return [json.loads(row) for row in (directory / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def score_of(directory: Path) -> dict[str, Any]:
    """The run's evaluation report on the test split."""
    return dict(json.loads((directory / "score.json").read_text(encoding="utf-8")))
