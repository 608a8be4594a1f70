"""benchmarks/ablations.py: what its table says of several seeds."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from support.loaded import load

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def ablations(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("measure", "trainings"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return load(BENCHMARKS / "ablations.py")


def run(directory: Path, correct: int, interval: tuple[float, float]) -> Path:
    """Writes a finished run that classifies ``correct`` of 10,000 images."""
    directory.mkdir()
    score = {"top1": correct / 100, "correct": correct, "n": 10_000, "interval": interval}
    (directory / "score.json").write_text(json.dumps(score), encoding="utf-8")
    (directory / "log.jsonl").write_text(json.dumps({"epoch": 1, "train_top1": 70.0, "seconds": 60}), encoding="utf-8")
    return directory


def test_each_seed_has_its_score_and_interval_and_the_seeds_have_mean_and_deviation(
    ablations: ModuleType, tmp_path: Path
) -> None:
    """Wilson's intervals of 7,000, 7,200 and 7,400 of 10,000; 72 and 2 are their mean and standard deviation.

    Of 21,600 of 30,000 images, as if they were other images, the interval would be 71.49 to 72.51.
    """
    intervals = {7000: (69.09, 70.89), 7200: (71.11, 72.87), 7400: (73.13, 74.85)}
    runs = [run(tmp_path / str(count), count, interval) for count, interval in intervals.items()]
    table = ablations.results({"plain": [ablations.Training("net", directory) for directory in runs]})
    cells = [cell.strip() for cell in table.splitlines()[2].split("|")]
    assert "70.00, 72.00, 74.00" in cells
    assert "69.09 to 70.89, 71.11 to 72.87, 73.13 to 74.85" in cells
    assert "72.00 ± 2.00" in cells
    assert "71.49" not in table


def test_one_seed_has_no_deviation(ablations: ModuleType, tmp_path: Path) -> None:
    directory = run(tmp_path / "one", 7000, (69.09, 70.89))
    table = ablations.results({"plain": [ablations.Training("net", directory)]})
    assert "±" not in table.splitlines()[2]
