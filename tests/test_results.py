"""Tables of results: what is written is read, equal rows are equal bytes, and tests decide what is better."""

from pathlib import Path

import msgspec
import pytest
from scipy.stats import fisher_exact

from zoo import results
from zoo.errors import DataError
from zoo.results import Row, Speed
from zoo.statistics import percent_interval


def scored(name: str, correct: int, n: int = 1000, **more: object) -> Row:
    low, high = percent_interval(0, n, correct) or (0.0, 0.0)
    about = {"task": "evaluate", "data": "digits/test", "fingerprint": "sha256:1", **more}
    return Row(weights=name, n=n, correct=correct, top1=100 * correct / n, low=low, high=high, **about)  # type: ignore[arg-type]  # by name


ROWS = [
    scored("resnet8.a", 917, loss=0.25, params=270_000, sha256="ab" * 32, setting="--limit 3"),
    Row(
        task="attack curve",
        weights="resnet8.a",
        attack="pgd",
        epsilon=8 / 255,
        status="failed",
        reason='a "bad", day\n',
    ),
    Row(task="evaluate", weights="0123", zoo="0.1.0", torch="2.13.0+cpu"),
]


@pytest.mark.parametrize("name", ["results.csv", "results.parquet"])
def test_a_table_that_was_written_is_read_again(name: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs zoo-vision[data]")
    results.write(tmp_path, ROWS, [Speed(key="k", task="evaluate", weights="a", seconds=1.5)])
    assert results.read(tmp_path / name) == ROWS
    assert results.read_speed(tmp_path / "speed.csv") == [Speed(key="k", task="evaluate", weights="a", seconds=1.5)]


def test_equal_rows_are_equal_bytes(tmp_path: Path) -> None:
    written = [results.write(tmp_path / folder, ROWS, []) for folder in "ab"]
    first, second = ([file.read_bytes() for file in found] for found in written)
    assert first == second
    assert len(first) == 3


def test_the_columns_of_results_and_of_speeds_share_only_what_names_a_row() -> None:
    shared = set(Row.__struct_fields__) & set(Speed.__struct_fields__)
    assert shared == {"key", "task", "weights", "data", "setting"}


@pytest.mark.parametrize("text", ["", "task,weights\nevaluate,\n", "a,b\n1,2\n", "task,weights,n\nevaluate,x,many\n"])
def test_a_file_that_is_no_table_of_results_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "other.csv"
    file.write_text(text)
    if not text:
        assert results.read(file) == []
        return
    with pytest.raises(DataError, match="cannot be read as a table of results"):
        results.read(file)


def verdict(row: Row, *before: Row) -> str:
    [change] = results.compare([row], before)
    return change.verdict


@pytest.mark.parametrize(("lost", "expected"), [(-1, "better"), (0, "same"), (1, "worse"), (105, "worse")])
def test_the_same_weights_on_the_same_images_are_compared_by_counts(lost: int, expected: str) -> None:
    before, now = (scored("resnet8.a", correct, 9980, sha256="ab" * 32) for correct in (9855, 9855 - lost))
    assert verdict(now, before) == expected


def test_images_within_rounding_are_no_regression() -> None:
    before, now = (scored("resnet8.a", correct, 9980, sha256="ab" * 32, close=2) for correct in (9855, 9853))
    assert verdict(now, before) == "same"
    assert verdict(msgspec.structs.replace(now, close=1), msgspec.structs.replace(before, close=0)) == "worse"


def test_other_weights_are_compared_by_fishers_test() -> None:
    """Compares counts of 1,000 images with 917 of them, on both sides of scipy's p of 5%."""
    now = scored("resnet8.a", 917)
    for correct in (870, 880, 890, 892, 900, 917, 940):
        p = fisher_exact([[917, 83], [correct, 1000 - correct]]).pvalue
        [change] = results.compare([now], [scored("resnet8.a", correct)])
        expected = "same" if correct == 917 else "unclear" if p >= 0.05 else "better" if correct < 917 else "worse"
        assert (change.verdict, change.p) == (expected, pytest.approx(p, rel=1e-6))


def test_many_rows_are_corrected_for_their_number() -> None:
    """880 of 1,000 against 917 has p = 0.0089, which is nothing among ten rows."""
    now = [scored(f"resnet8.{tag}", 917) for tag in "abcdefghij"]
    before = [scored("resnet8.a", 880), *(scored(row.weights, 917) for row in now[1:])]
    changes = results.compare(now, before)
    assert [change.verdict for change in changes] == ["unclear", *["same"] * 9]
    assert changes[0].p == pytest.approx(10 * results.compare(now[:1], before)[0].p)  # type: ignore[operator]  # a number
    assert "corrected for 10 rows by Holm" in changes[0].method


def test_what_cannot_be_compared_is_no_regression_and_what_is_gone_is_one() -> None:
    now, failed = (
        scored("resnet8.a", 100),
        Row(task="evaluate", weights="resnet8.a", data="digits/test", status="failed"),
    )
    before = scored("resnet8.a", 900)
    assert verdict(now, scored("resnet8.a", 900, fingerprint="sha256:2")) == "other images"
    assert verdict(now, scored("resnet8.b", 900)) == "new"
    assert verdict(now, scored("resnet8.a", 900, setting="--limit 3")) == "new"
    assert verdict(failed, before) == "failed"
    assert verdict(failed, failed) == "new"
    regressions = [change.is_regression for row in (now, failed) for change in results.compare([row], [before])]
    assert regressions == [True, True]


def test_an_earlier_table_with_two_rows_of_one_subject_is_refused() -> None:
    with pytest.raises(DataError, match=r"2 rows of evaluate resnet8\.a digits/test"):
        results.compare([], [scored("resnet8.a", 1), scored("resnet8.a", 2)])


def test_rows_are_in_natural_order_of_names() -> None:
    names = ["resnet110.c10", "resnet20.c10", "resnet20.a"]
    found = sorted((scored(name, 1) for name in names), key=lambda row: row.place)
    assert [row.weights for row in found] == ["resnet20.a", "resnet20.c10", "resnet110.c10"]
