"""``zoo results``: what it prints of tables."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from zoo import results
from zoo.cli import cli
from zoo.results import Row, Speed

POINTS = {"a.c10": (100, 50.0), "b.c10": (1_000, 70.0), "c.c10": (2_000, 60.0), "d.c10": (10_000, 90.0)}
"""Parameters and top-1 of weights. c has more of the first and less of the second than b."""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [
        Row(
            task="evaluate",
            weights=name,
            data="cifar10/test",
            family=name[0],
            params=params,
            n=10_000,
            correct=round(100 * top1),
            top1=top1,
            low=top1 - 1,
            high=top1 + 1,
            key=name,
        )
        for name, (params, top1) in POINTS.items()
    ]
    other = Row(task="evaluate", weights="a.c10", data="digits/test", status="failed", reason="a crash")
    speeds = [
        Speed(key=name, task="evaluate", weights=name, images_per_s=1000 / params)
        for name, (params, _) in POINTS.items()
    ]
    results.write(tmp_path, [*rows, other], speeds)
    return tmp_path / "results.csv"


def ask(*words: object) -> Result:
    return CliRunner().invoke(cli, ["results", *map(str, words)], prog_name="zoo")


def test_show_prints_scores_with_their_intervals_and_reasons_of_failures(table: Path) -> None:
    lines = ask("show", table).stdout.splitlines()
    assert lines[0].split() == ["task", "weights", "on", "top-1", "95%", "interval", "images", "reason"]
    assert "90.00%  89.00 to 91.00  10,000" in lines[4]
    assert lines[5].endswith("failed: a crash")
