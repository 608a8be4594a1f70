"""Tables of results on the pages: beside the manifest's score, a regression is named."""

from pathlib import Path

import pytest
from click.testing import Result
from support import small_site
from support.command import ask_warm

import zoo
from zoo import results
from zoo.results import Row
from zoo.statistics import percent_interval

NAME = "resnet20.digits"


def row(correct: int) -> Row:
    claim = zoo.info(NAME)["weights"][0]["scores"]["digits/test"]
    low, high = percent_interval(0, claim["n"], correct) or (0.0, 0.0)
    score = {"n": claim["n"], "correct": correct, "top1": 100 * correct / claim["n"], "low": low, "high": high}
    return Row(task="evaluate", weights=NAME, data="digits/test", fingerprint=claim["fingerprint"], **score)


def build(folder: Path, *rows: Row) -> Result:
    pytest.importorskip("jinja2", reason="needs jinja2")
    results.write(folder / "runs", rows, [])
    words = ["gallery", "build", NAME, "-o", str(folder / "site"), "--results", str(folder / "runs" / "results.csv")]
    return ask_warm(*words)


@pytest.mark.parametrize(("correct", "verdict"), [(360, "same"), (300, "worse")])
def test_a_page_shows_results_and_says_if_they_are_worse_than_the_manifests(
    correct: int, verdict: str, tmp_path: Path
) -> None:
    done = build(tmp_path, row(correct))
    assert done.exit_code == 0, done.output
    text = " ".join(" ".join(small_site.Page(tmp_path / "site" / "models" / "resnet20.html").text).split())
    [shown] = text.partition("Measured again")[2].partition("Measured by")[::2][:1]
    assert f"digits/test {100 * correct / 360:.2f}%" in shown
    assert f"360 {verdict}" in shown


def test_one_result_in_two_tables_is_refused(tmp_path: Path) -> None:
    done = build(tmp_path, row(360), row(359))
    assert done.exit_code == 1
    assert "second row of evaluate, resnet20.digits on digits/test" in done.output
