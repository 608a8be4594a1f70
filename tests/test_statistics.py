"""Intervals and tests: what scipy says, and examples by hand."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap, fisher_exact, multinomial, ttest_ind

from zoo.statistics import (
    fisher,
    holm,
    mcnemar,
    mean_interval,
    newcombe,
    paired_interval,
    percent_interval,
    welch,
    wilson,
)

COUNTS = st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
FEW = st.integers(0, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS)
def test_wilsons_interval_is_scipys(counts: tuple[int, int]) -> None:
    correct, n = counts
    expected = binomtest(correct, n).proportion_ci(0.95, method="wilson")
    assert wilson(correct, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilsons_interval_of_no_trials_or_of_more_right_than_trials_is_refused() -> None:
    for correct, n in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="expected 0 <= correct"):
            wilson(correct, n)


def test_an_interval_in_per_cent_is_of_the_images_that_are_given_or_implied() -> None:
    assert percent_interval(99.7, 360) == percent_interval(0, 360, 359)
    assert percent_interval(0, 360, 359) == pytest.approx([100 * bound for bound in wilson(359, 360)])
    assert percent_interval(100.4, 10) == percent_interval(0, 10, 10)  # a percentage that was rounded up
    assert percent_interval(50, 0) is None


@settings(max_examples=40)
@given(st.integers(0, 400), st.integers(0, 400))
def test_the_exact_test_is_the_binomial_test_of_scipy(first: int, second: int) -> None:
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)


def test_an_exact_test_of_many_images_is_finite() -> None:
    assert mcnemar(3_000, 3_000) == 1.0
    assert mcnemar(2_900, 3_100) == pytest.approx(binomtest(2_900, 6_000).pvalue, rel=1e-6)
    assert mcnemar(10, 20_000) == 0.0


@settings(max_examples=60)
@given(FEW, FEW)
def test_two_samples_are_compared_as_by_scipy(first: tuple[int, int], second: tuple[int, int]) -> None:
    table = [[correct, n - correct] for correct, n in (first, second)]
    assert fisher(first, second) == pytest.approx(fisher_exact(table).pvalue, rel=1e-6)


def test_large_samples_are_compared_as_by_scipy() -> None:
    for correct in (9155, 9050, 8000):
        expected = fisher_exact([[9155, 825], [correct, 9980 - correct]]).pvalue
        assert fisher((9155, 9980), (correct, 9980)) == pytest.approx(expected, rel=1e-6, abs=1e-300)
    assert fisher((359, 360), (360, 360)) == 1.0
    with pytest.raises(ValueError, match="expected 0 <= correct"):
        fisher((3, 2), (1, 2))


def test_the_interval_of_a_mean_over_classes_is_scipys_bootstrap_within_classes() -> None:
    """scipy resamples each class, an array of right (1) and wrong (0), and takes the mean of their means."""
    correct, of = [45, 10, 30, 3], [50, 40, 60, 4]
    classes = [np.repeat([1.0, 0.0], [right, n - right]) for right, n in zip(correct, of, strict=True)]
    statistic = lambda *parts, axis=-1: np.mean([part.mean(axis=axis) for part in parts], axis=0)  # noqa: E731
    interval = bootstrap(classes, statistic, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert mean_interval(correct, of, samples=20_000) == pytest.approx((interval.low, interval.high), abs=0.004)
    assert mean_interval([4, 4], [4, 4]) == (1.0, 1.0)
    assert mean_interval(correct, of) == mean_interval(correct, of)  # the same on any day


def test_several_p_values_are_corrected_by_holm() -> None:
    """The example of Holm 1979 in short: the least is multiplied by the number of tests, the next by one less."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


SCORES = st.lists(st.floats(0, 100).map(lambda value: round(value, 2)), min_size=2, max_size=12)


@given(SCORES, SCORES)
def test_welchs_test_and_interval_are_scipys(first: list[float], second: list[float]) -> None:
    assume(np.ptp(first) > 0.01 and np.ptp(second) > 0.01)
    expected = ttest_ind(first, second, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert welch(first, second)[0] == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    assert welch(first, second)[1:] == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-6)


def test_scores_that_do_not_vary_have_no_test_of_their_means() -> None:
    with pytest.raises(ValueError, match="vary"):
        welch([98.0, 98.0], [97.0, 97.0])


def test_the_interval_of_paired_answers_is_that_of_the_textbook_and_covers_the_difference() -> None:
    """Agresti, Categorical data analysis, 10.1.1: 1,600 voters, 150 and 86 of whom changed their minds."""
    assert paired_interval(150, 86, 1600) == pytest.approx((0.04 - 1.96 * 0.0095, 0.04 + 1.96 * 0.0095), abs=3e-4)
    low, high = paired_interval(86, 150, 1600)
    assert (-high, -low) == pytest.approx(paired_interval(150, 86, 1600))
    assert paired_interval(0, 0, 30)[0] < 0 < paired_interval(0, 0, 30)[1]
    assert paired_interval(3, 1, 10) == pytest.approx((-0.1862, 0.5195), abs=5e-5)  # by hand: 3.5 and 1.5 of 12
    assert paired_interval(30, 0, 30)[1] == -paired_interval(0, 30, 30)[0] == 1.0
    n, first, second = 60, 0.2, 0.08
    covered = sum(
        float(multinomial.pmf((a, b, n - a - b), n, (first, second, 1 - first - second)))
        for a in range(n + 1)
        for b in range(n + 1 - a)
        if paired_interval(a, b, n)[0] <= first - second <= paired_interval(a, b, n)[1]
    )
    assert 0.94 < covered < 0.97


def test_the_interval_of_a_difference_is_newcombes() -> None:
    """Newcombe 1998, table II, method 10: 56 of 70 and 48 of 80, and 10 of 10 and 0 of 10."""
    assert newcombe((56, 70), (48, 80)) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert newcombe((10, 10), (0, 10)) == pytest.approx((0.6075, 1.0), abs=5e-5)
