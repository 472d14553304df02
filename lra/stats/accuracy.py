"""One accuracy, or the mean of a few: its noise and its interval; and two models on the same rows.

The noise of an accuracy that was counted on a test split is binomial. Over seeds the interval is Student's t; there is
none below three seeds, because at two it is 12.7 standard errors wide and calls any two numbers equal.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from scipy import special  # not scipy.stats, whose slow import would delay every run

Z = statistics.NormalDist().inv_cdf(0.975)  # 1.96: half of a 95 % interval, in standard errors
LEVEL = 0.05
FEWEST = 3  # the smallest number of seeds for an interval or a test


def binomial_variance(accuracy: float, rows: int) -> float:
    """The variance of an accuracy that was counted on `rows` rows; infinite without rows."""
    return accuracy * (1 - accuracy) / rows if rows > 0 else math.inf


def binomial_half_width(accuracy: float, rows: int, tests: int = 1) -> float:
    """Half of the interval of an accuracy that was counted on `rows` rows; infinite without rows.

    tests: how many accuracies are compared with it at once (Bonferroni).
    """
    z = Z if tests <= 1 else statistics.NormalDist().inv_cdf(1 - 0.025 / tests)
    return z * math.sqrt(binomial_variance(accuracy, rows))


@dataclass(frozen=True)
class Summary:
    """The mean of a few runs. deviation: the sample standard deviation (divisor n - 1), None for a single run."""

    mean: float
    deviation: float | None
    count: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's interval of the mean over seeds; None below three seeds."""
        if self.deviation is None or self.count < FEWEST:
            return None
        half = t_half_width(self.deviation, self.count)
        return self.mean - half, self.mean + half


def summarise(values: Sequence[float]) -> Summary:
    """Mean, spread and count. Raises statistics.StatisticsError when there is no value."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Summary(statistics.fmean(values), deviation, len(values))


def t_half_width(deviation: float, count: int) -> float:
    """Half of Student's interval of a mean."""
    return t_quantile(count) * deviation / math.sqrt(count)


@cache
def t_quantile(count: int) -> float:
    """Half of Student's interval in standard errors: 4.3 for three runs, 1.96 for very many."""
    return float(special.stdtrit(count - 1, 1 - LEVEL / 2))


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Exact two-sided p of McNemar's test, from the samples that only the first or only the second model gets right."""
    total = only_first + only_second
    return min(1.0, 2 * float(special.bdtr(min(only_first, total - only_first), total, 0.5)))


def paired_half_width(only_first: int, only_second: int, rows: int) -> float:
    """Half of the interval of the difference of two accuracies on the same rows, from the rows where they differ."""
    apart, gap = only_first + only_second, only_first - only_second
    return Z * math.sqrt(apart - gap * gap / rows) / rows
