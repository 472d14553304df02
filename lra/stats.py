"""Mean, spread and sampling noise of accuracies; standard library only.

All intervals are 95 % and use the normal approximation, 1.96 standard errors. Over two or three seeds that is too
narrow, but the t-interval (6.5 times wider at two seeds) would call almost any two numbers equal.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

Z = 1.96


@dataclass(frozen=True)
class Summary:
    """Of a few runs. `deviation` is the sample standard deviation (divisor n - 1), None for a single run."""

    mean: float
    deviation: float | None
    count: int


def summarise(values: Sequence[float]) -> Summary:
    """Raises statistics.StatisticsError when there is no value."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Summary(statistics.fmean(values), deviation, len(values))


def binomial_half_width(accuracy: float, rows: int, tests: int = 1) -> float:
    """Half of the interval of an accuracy (a fraction) that was counted on so many rows; infinite on none.

    tests: how many accuracies are held against it at once (Bonferroni).
    """
    z = Z if tests <= 1 else statistics.NormalDist().inv_cdf(1 - 0.025 / tests)
    return z * math.sqrt(accuracy * (1 - accuracy) / rows) if rows else math.inf


def seed_half_width(summary: Summary) -> float:
    """Half of the interval of a mean over seeds; 0 for a single run, whose spread is unknown."""
    return Z * summary.deviation / math.sqrt(summary.count) if summary.deviation is not None else 0.0


def half_width(summary: Summary, rows: int) -> float:
    """Noise of a mean accuracy: that of the test rows, which all seeds share, and that of the seeds, in quadrature."""
    return math.hypot(binomial_half_width(summary.mean, rows), seed_half_width(summary))


def within_noise(summary: Summary, rows: int, rung: float) -> bool:
    """Whether a mean accuracy over seeds, on so many test rows, cannot be told from the rung of a ladder."""
    return abs(summary.mean - rung) <= half_width(summary, rows)
