"""Several trainings at once, each in a process of its own, resumed where they were broken off."""

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
    """What ``zoo train`` is given, and the run's directory."""

    model: str
    directory: Path
    options: Sequence[str] = ()


def carry_out(trainings: Sequence[Training], *, data: str, jobs: int, threads: int = 1) -> None:
    """Trains and scores each that is not done yet, ``jobs`` at a time, in order."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}

    def work(training: Training) -> None:
        if not (training.directory / "model.safetensors").exists():
            is_begun = (training.directory / "config.json").exists()
            call = [*ZOO, "train", training.model, "--data", data, *training.options, "-o", str(training.directory)]
            subprocess.run([*call, "--resume"] if is_begun else call, env=environment, check=True)
        score = training.directory / "score.json"
        if not score.exists():  # test images are looked at once
            weights = training.directory / "model.safetensors"
            call = [*ZOO, "evaluate", training.model, "--data", data, "--weights", str(weights), "--json"]
            score.write_text(subprocess.run(call, env=environment, check=True, capture_output=True, text=True).stdout)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(work, trainings))


def log_of(directory: Path) -> list[dict[str, Any]]:
    """The run's rows, one an epoch."""
    return [json.loads(row) for row in (directory / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def score_of(directory: Path) -> dict[str, Any]:
    """The run's report on the test split."""
    return dict(json.loads((directory / "score.json").read_text(encoding="utf-8")))
