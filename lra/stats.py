"""What a few seeds say about an accuracy and about a difference between two; uses scipy.

Accuracies are fractions of 1. All intervals are 95 %. The noise of an accuracy that was counted on a test split is
binomial. Over seeds the interval is Student's t; there is none below three seeds, because at two it is 12.7 standard
errors wide and calls any two numbers equal. Differences are paired by seed. From ten pairs on they are tested by exact
sign flips and carry a BCa bootstrap interval (Efron 1987); with fewer pairs sign flips can hardly reach 5 %, or not at
all (five pairs: 2 / 2^5), and BCa does not hold its level. Differences that are reported together are adjusted together
(Holm 1979); where there are too many for sign flips to reach 5 % among them (10 pairs: more than 25), they are
tested by t instead.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy import optimize, special, stats

Z = statistics.NormalDist().inv_cdf(0.975)  # 1.96: half of an interval in standard errors
LEVEL = 0.05
POWER = 0.8
FEWEST = 3  # seeds that an interval or a test needs
MANY = 10  # pairs from which on sign flips and BCa are used
EXACT = 16  # pairs up to which all 2^n sign flips are tried; with more pairs, 2^16 are drawn from a fixed seed
FLIPS = "sign flips, BCa"
FLAT = 1e-12  # a smaller spread counts as none: there is nothing to resample


def binomial_half_width(accuracy: float, rows: int, tests: int = 1) -> float:
    """Half of the interval of an accuracy that was counted on `rows` rows; infinite without rows.

    tests: how many accuracies are compared with it at once (Bonferroni).
    """
    z = Z if tests <= 1 else statistics.NormalDist().inv_cdf(1 - 0.025 / tests)
    return z * math.sqrt(accuracy * (1 - accuracy) / rows) if rows else math.inf


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


@dataclass(frozen=True)
class Difference:
    """The difference between two rows over the seeds that both have finished: this row minus the other.

    `interval`, `p` and `detectable` are None below three pairs. `p` is two-sided; `adjusted` is p after Holm's
    correction over the differences that were adjusted together. `test_half_width` is the noise of the test rows if the
    two made their errors independently; it is too wide when they make the same errors. `detectable` is the smallest
    true difference that as many pairs with this spread would have separated in four of five repetitions, among the
    differences that were adjusted together.
    """

    mean: float
    deviation: float | None
    count: int
    interval: tuple[float, float] | None
    p: float | None
    adjusted: float | None
    method: str  # "t", FLIPS, "t, for so large a family", or empty without a test
    test_half_width: float
    detectable: float | None

    @property
    def separated(self) -> bool:
        """Larger than the noise of the seeds (Holm-adjusted p below 5 %) and than the noise of the test rows."""
        return self.adjusted is not None and self.adjusted < LEVEL and abs(self.mean) > self.test_half_width


def summarise(values: Sequence[float]) -> Summary:
    """Mean, spread and count. Raises statistics.StatisticsError when there is no value."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Summary(statistics.fmean(values), deviation, len(values))


def t_half_width(deviation: float, count: int) -> float:
    """Half of Student's interval of a mean."""
    return t_quantile(count) * deviation / math.sqrt(count)


@cache
def t_quantile(count: int, tests: int = 1) -> float:
    """Half of Student's interval in standard errors: 4.3 for three runs, 1.96 for very many.

    tests: how many such intervals must hold at once (Bonferroni).
    """
    return float(stats.t.ppf(1 - LEVEL / 2 / tests, count - 1))


def half_width(summary: Summary, rows: int) -> float:
    """Noise of a mean accuracy against a fixed number.

    It joins, in quadrature, the noise of the test rows, which all seeds share, and half of Student's interval over the
    seeds; two seeds have no such interval and count with 1.96 standard errors.
    """
    if summary.deviation is None:
        return binomial_half_width(summary.mean, rows)
    quantile = t_quantile(summary.count) if summary.count >= FEWEST else Z
    seeds = quantile * summary.deviation / math.sqrt(summary.count)
    return math.hypot(binomial_half_width(summary.mean, rows), seeds)


def within_noise(summary: Summary, rows: int, rung: float) -> bool:
    """Whether a mean accuracy over seeds, on `rows` test rows, is within its noise of the rung of a ladder."""
    return abs(summary.mean - rung) <= half_width(summary, rows)


def difference(ours: Sequence[float], theirs: Sequence[float], rows: int) -> Difference:
    """The difference between two rows from their accuracies, in the same order of seeds, on `rows` test rows.

    It is not adjusted yet: see `adjust`. Raises ValueError for sequences of different lengths, StatisticsError for
    empty ones.
    """
    pairs = list(zip(ours, theirs, strict=True))
    gains = [a - b for a, b in pairs]
    summary = summarise(gains)
    noise = math.hypot(*(binomial_half_width(statistics.fmean(side), rows) for side in zip(*pairs, strict=True)))
    if summary.deviation is None or summary.count < FEWEST:
        return Difference(summary.mean, summary.deviation, summary.count, None, None, None, "", noise, None)
    least = detectable(summary.deviation, summary.count, noise=noise)
    flat = summary.deviation < FLAT
    if summary.count >= MANY and not flat:
        p, interval, method = sign_flip_p(gains), bca_interval(gains), FLIPS
    else:
        p, interval, method = _t_p(summary, flat), summary.interval, "t"
    return Difference(summary.mean, summary.deviation, summary.count, interval, p, p, method, noise, least)


def adjust(differences: dict[str, Difference]) -> dict[str, Difference]:
    """The same differences as one family: p adjusted over all that have one, and what is detectable among them.

    The smallest p of n pairs by sign flips is 2 / 2^n. Where that times the size of the family is not below the
    level, the difference is tested by t.
    """
    size = sum(d.p is not None for d in differences.values())
    tested = {name: _among(d, size) for name, d in differences.items() if d.p is not None}
    adjusted = holm([d.p for d in tested.values() if d.p is not None])
    judged = {name: replace(d, adjusted=p) for (name, d), p in zip(tested.items(), adjusted, strict=True)}
    return {name: judged.get(name, d) for name, d in differences.items()}


def _among(d: Difference, size: int) -> Difference:
    """A tested difference as one of a family of `size`, before the adjustment."""
    summary = Summary(d.mean, d.deviation, d.count)
    if d.method == FLIPS and size * 2.0 ** (1 - min(d.count, EXACT)) >= LEVEL:
        d = replace(d, p=_t_p(summary, flat=False), interval=summary.interval, method="t, for so large a family")
    return replace(d, detectable=detectable(d.deviation or 0.0, d.count, size, d.test_half_width))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979); the results are compared with the level itself."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, highest = [0.0] * len(ps), 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - place) * ps[i]))
        adjusted[i] = highest
    return adjusted


def detectable(deviation: float, count: int, tests: int = 1, noise: float = 0.0) -> float:
    """The smallest true mean of differences with this spread that is found with a power of 80 %.

    Found means: separated by a two-sided t-test at 5 % divided by the number of tests (Holm's first step), and larger
    than the noise of the test rows. For sign flips this is an approximation: they find fewer, two in three where the
    family is just small enough for them.
    """
    if deviation < FLAT or not math.isfinite(noise):
        return noise
    error = deviation / math.sqrt(count)
    bars = np.maximum(noise / error, t_quantile(count, tests) * _spreads(count))
    shift = optimize.brentq(lambda c: special.ndtr(c - bars).mean() - POWER, 0.0, bars.max() + 1)
    return float(shift) * error  # pyright: ignore[reportArgumentType]


@cache
def _spreads(count: int) -> np.ndarray:
    """Quantiles (1,000) of the sample standard deviation of `count` draws with unit variance."""
    return np.sqrt(stats.chi2.ppf((np.arange(1000) + 0.5) / 1000, count - 1) / (count - 1))


def sign_flip_p(gains: Sequence[float]) -> float:
    """Two-sided p of a mean under random signs: exact up to 2^16 sign patterns, otherwise over 2^16 drawn ones."""
    values = np.asarray(gains, dtype=np.float64)
    exact = len(values) <= EXACT
    if exact:
        codes = np.arange(2 ** len(values), dtype=np.uint32)
        flips = (codes[:, None] >> np.arange(len(values), dtype=np.uint32)) & 1
    else:
        flips = np.random.default_rng(0).integers(0, 2, (2**EXACT, len(values)), dtype=np.uint8)
    means = np.abs((1.0 - 2.0 * flips) @ values)
    extreme = int(np.sum(means >= abs(values.sum()) - 1e-12))
    return extreme / len(means) if exact else (extreme + 1) / (len(means) + 1)


def bca_interval(gains: Sequence[float]) -> tuple[float, float]:
    """The bias-corrected and accelerated bootstrap interval of the mean, from a fixed seed."""
    found = stats.bootstrap((np.asarray(gains),), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(0))
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Exact two-sided p of McNemar's test, from the samples that only the first or only the second model gets right."""
    total = only_first + only_second
    return float(stats.binomtest(only_first, total).pvalue) if total else 1.0


def paired_half_width(only_first: int, only_second: int, rows: int) -> float:
    """Half of the interval of the difference of two accuracies on the same rows, from the rows where they differ."""
    apart, gap = only_first + only_second, only_first - only_second
    return Z * math.sqrt(apart - gap * gap / rows) / rows


def _t_p(summary: Summary, flat: bool) -> float:
    if flat or summary.deviation is None:
        return 1.0 if abs(summary.mean) < 1e-12 else 0.0
    statistic = abs(summary.mean) / summary.deviation * math.sqrt(summary.count)
    return float(2 * stats.t.sf(statistic, summary.count - 1))
