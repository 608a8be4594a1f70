"""The confidence interval of an accuracy."""

import math

Z95 = 1.959963984540054
"""The 97.5% quantile of the normal distribution: two-sided 95%."""


def wilson(correct: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Returns Wilson's score interval of a proportion, as fractions: (low, high), 95% by default.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    """
    if not 0 <= correct <= n or n == 0:
        raise ValueError(f"{correct} correct of {n}: expected 0 <= correct <= n and n > 0")
    share = correct / n
    centre = share + z * z / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if correct == 0 else (centre - reach) / scale
    high = 1.0 if correct == n else (centre + reach) / scale
    return low, high


def of_percent(percent: float, n: int, correct: int | None = None) -> tuple[float, float] | None:
    """Returns Wilson's 95% interval in per cent: of ``correct`` images, or of the number that ``percent`` implies.

    None if the number of images is unknown.
    """
    if not n:
        return None
    low, high = wilson(min(round(percent * n / 100) if correct is None else correct, n), n)
    return 100 * low, 100 * high
