"""benchmarks/degradation.py, from the manifests of the weights that ship: what the documentation shows of them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def degradation(*words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, ROOT / "benchmarks" / "degradation.py", "--published", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_table_of_the_documentation_is_that_of_the_published_weights(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs zoo-vision[look]")
    done = degradation("--figure", tmp_path / "depth.svg")
    assert done.returncode == 0, done.stderr
    header, _, *rows = done.stdout.strip().splitlines()
    assert len(rows) == 8
    page = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    assert header in page
    assert [row for row in rows if row not in page] == []
    assert "<svg" in (tmp_path / "depth.svg").read_text(encoding="utf-8")


def test_a_recipe_without_published_curves_is_named() -> None:
    done = degradation("--recipe", "degradation_c10", "--depth", "56")
    assert done.returncode == 1
    assert done.stderr == "No weights of plain56 are published with the curve of degradation_c10.\n"
