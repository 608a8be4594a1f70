"""``zoo results``: what it prints of tables, and the drawing."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from zoo.cli import cli
from zoo.results import files
from zoo.results.rows import Row, Speed

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
    files.write(tmp_path, [*rows, other], speeds)
    return tmp_path / "results.csv"


def ask(*words: object) -> Result:
    return CliRunner().invoke(cli, ["results", *map(str, words)], prog_name="zoo")


def test_show_prints_scores_with_their_intervals_and_reasons_of_failures(table: Path) -> None:
    lines = ask("show", table).stdout.splitlines()
    assert lines[0].split() == ["task", "weights", "on", "top-1", "95%", "interval", "images", "reason"]
    assert "90.00%  89.00 to 91.00  10,000" in lines[4]
    assert lines[5].endswith("failed: a crash")


@pytest.mark.parametrize("cost", ["params", "time"])
def test_the_pareto_line_has_the_weights_that_no_cheaper_ones_equal(cost: str, table: Path, tmp_path: Path) -> None:
    found = json.loads(ask("plot", table, "--cost", cost, "--json").stdout)
    assert [row["weights"] for row in found["pareto"]] == ["a.c10", "b.c10", "d.c10"]
    assert [row["cost"] for row in found["pareto"]] == [100, 1_000, 10_000]
    drawn = ask("plot", table, "--cost", cost, "--data", "cifar10/test").stdout
    chart = drawn.partition("on the line")[0]
    assert (chart.count("*"), chart.partition("\n")[2].count("o")) == (3, 1)


def test_the_drawing_is_svg_with_a_marker_for_each_of_the_weights_and_a_legend(table: Path, tmp_path: Path) -> None:
    assert ask("plot", table, "--svg", tmp_path / "a.svg").exit_code == 0
    root = ET.parse(tmp_path / "a.svg").getroot()
    of = "{http://www.w3.org/2000/svg}"
    titles = [title.text or "" for title in root.iter(f"{of}title")]
    assert [title.partition(":")[0] for title in titles] == [*POINTS]
    assert {"a", "b", "c", "d"} <= {text.text for text in root.iter(f"{of}text")}
    [line] = root.iter(f"{of}polyline")
    assert len(line.attrib["points"].split()) == 3


def test_a_data_set_without_results_is_refused_with_those_that_have_some(table: Path) -> None:
    done = ask("plot", table, "--data", "mnist/test")
    assert done.exit_code == 1
    assert "no evaluated weights on mnist/test" in done.output
    assert "It has results on cifar10/test." in done.output
