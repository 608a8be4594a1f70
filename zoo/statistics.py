"""Intervals and tests of proportions: how far chance moves a score, and whether two scores differ by more.

A score is measured in one of three situations, and each has its own question. On the same images with the same weights,
only rounding differs: counts are compared. On the same images with other weights, answers are paired:
:func:`mcnemar`. On other images, or by a training with other bits: :func:`fisher`. Wilson's interval is none of these:
it says where the score would lie on other images of the same kind. Whether one way to train is better than another is
a question to several trainings of each: :func:`welch`.
"""

import math
import statistics
from collections.abc import Sequence

Z95 = 1.959963984540054
"""The 97.5% quantile of the normal distribution: two-sided 95%."""

LEVEL = 0.05
"""The p-value below which two scores are called different."""


def wilson(correct: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Returns Wilson's score interval of a proportion, as fractions: (low, high), 95% by default.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    """
    if not 0 <= correct <= n or n == 0:
        raise ValueError(f"{correct} correct of {n}: expected 0 <= correct <= n and n > 0")
    share = correct / n
    center = share + z * z / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if correct == 0 else (center - reach) / scale
    high = 1.0 if correct == n else (center + reach) / scale
    return low, high


def newcombe(first: tuple[int, int], second: tuple[int, int]) -> tuple[float, float]:
    """Returns the 95% interval of the difference of two proportions, each (correct, n), as fractions: (low, high).

    It joins their Wilson intervals. Newcombe, "Interval estimation for the difference between independent proportions:
    comparison of eleven methods", 1998, method 10.
    """
    share, other = (correct / n for correct, n in (first, second))
    (low, high), (other_low, other_high) = wilson(*first), wilson(*second)
    return (
        share - other - math.hypot(share - low, other_high - other),
        share - other + math.hypot(high - share, other - other_low),
    )


def percent_interval(percent: float, n: int, correct: int | None = None) -> tuple[float, float] | None:
    """Returns Wilson's 95% interval in per cent: of ``correct`` images, or of the number that ``percent`` implies.

    None if the number of images is unknown.
    """
    if not n:
        return None
    low, high = wilson(min(round(percent * n / 100) if correct is None else correct, n), n)
    return 100 * low, 100 * high


def mean_interval(correct: Sequence[int], of: Sequence[int], samples: int = 2000) -> tuple[float, float]:
    """Returns the 95% interval of the mean over classes of the share that is right, as fractions.

    It is the percentile bootstrap within classes: each sample draws as many images of a class as there are, so the
    share of a class is a binomial. The seed is fixed. Efron, "Bootstrap methods: another look at the jackknife", 1979.

    Args:
        correct: The images that are right, of each class.
        of: The images of each class, at least one.
        samples: Of the bootstrap.
    """
    import numpy as np

    counts = np.asarray(of)
    draws = np.random.Generator(np.random.PCG64(0)).binomial(counts, np.asarray(correct) / counts, (samples, len(of)))
    low, high = np.quantile((draws / counts).mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Returns the two-sided p-value of McNemar's exact test: a binomial test of ``only_first`` in the sum, with one
    half.
    """
    n, least = only_first + only_second, min(only_first, only_second)
    term = ways = 1
    for k in range(least):
        term = term * (n - k) // (k + 1)
        ways += term
    return min(1.0, 2 * ways / (1 << n))


def paired_interval(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """Returns the 95% interval of the difference of two scores on the same ``n`` images, as fractions: (low, high).

    Wald's, after half an image is added to each of the four counts. Agresti and Min, "Simple improved confidence
    intervals for comparing matched proportions", 2005.

    Args:
        only_first: The images that the first alone has right.
        only_second: Those that the second alone has right.
        n: All images.
    """
    first, second, total = only_first + 0.5, only_second + 0.5, n + 2
    difference = (first - second) / total
    reach = Z95 * math.sqrt((first + second) / total - difference**2) / math.sqrt(total)
    return max(difference - reach, -1.0), min(difference + reach, 1.0)


def fisher(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Returns the two-sided p-value of Fisher's exact test of two samples, each (correct, n).

    It is the probability, if both have one chance to be right, of a split of the correct ones among the two samples
    that is no likelier than this one. Fisher, "On the interpretation of chi-square from contingency tables", 1922.
    """
    (correct, n), (other_correct, other_n) = first, second
    if not (0 <= correct <= n and 0 <= other_correct <= other_n):
        raise ValueError(f"{correct} of {n} and {other_correct} of {other_n}: expected 0 <= correct <= n")
    total = correct + other_correct
    chances = [
        _log_ways(n, k) + _log_ways(other_n, total - k) for k in range(max(0, total - other_n), min(total, n) + 1)
    ]
    here = _log_ways(n, correct) + _log_ways(other_n, other_correct)
    largest = max(chances)
    # Equal chances are computed with other roundings.
    rarer = math.fsum(math.exp(chance - largest) for chance in chances if chance <= here + 1e-7)
    return min(1.0, rarer / math.fsum(math.exp(chance - largest) for chance in chances))


def _log_ways(n: int, k: int) -> float:
    """Returns the logarithm of the number of ways to choose ``k`` of ``n``."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def welch(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """Returns the p-value of Welch's two-sided t-test of two means, and the 95% interval of first - second: (p, low,
    high).

    Welch, "The generalization of 'Student's' problem when several different population variances are involved", 1947.

    Args:
        first: At least two values, such as the scores of trainings with different seeds.
        second: The same of the others. One of both must vary.
    """
    shares = [statistics.variance(values) / len(values) for values in (first, second)]
    if not sum(shares):
        raise ValueError("Welch's test needs values that vary.")
    error = math.sqrt(sum(shares))
    freedom = sum(shares) ** 2 / sum(
        share**2 / (len(values) - 1) for share, values in zip(shares, (first, second), strict=True)
    )
    difference = statistics.fmean(first) - statistics.fmean(second)
    low, high = 0.0, 2.0
    while _student(high, freedom) > 1 - 0.95:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _student(middle, freedom) > 1 - 0.95 else (low, middle)
    return _student(difference / error, freedom), difference - low * error, difference + low * error


def _student(t: float, freedom: float) -> float:
    """Returns the probability that Student's t is at least as far from 0 as ``t``.

    It is the regularized incomplete beta function of freedom / (freedom + t^2), by its series (DLMF 8.17.22).
    """
    a, b = freedom / 2, 0.5
    x = freedom / (freedom + t * t)
    is_turned = x > (a + 1) / (a + b + 2)  # the fraction converges fast below that
    if is_turned:
        a, b, x = b, a, 1 - x
    scale = 0.0
    if 0 < x < 1:
        scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
        scale = math.exp(scale) / a
    fraction = 1.0
    for m in range(200, 0, -1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        fraction = 1 + odd / (1 + even / fraction)
    share = scale / fraction
    return 1 - share if is_turned else share


def holm(values: Sequence[float]) -> list[float]:
    """Returns p-values of several tests, corrected for their number by Holm's method.

    Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    corrected, highest = [0.0] * len(values), 0.0
    for place, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        highest = max(highest, min(1.0, (len(values) - place) * values[index]))
        corrected[index] = highest
    return corrected
