"""What a few seeds say about an accuracy and about a difference of two; on scipy, for reports.

An interval is a 95 % one. Over seeds it is Student's t, and there is none below three seeds: at two it is 12.7 standard
errors wide and calls any two numbers equal. Differences are paired by seed. From ten pairs on they are tested by exact
sign flips and carry a BCa bootstrap interval (Efron 1987); below, sign flips cannot reach 5 % (five pairs: 2 / 2^5) or
hardly can, and BCa does not hold its level. Several differences are adjusted together (Holm 1979); so many that sign
flips cannot reach 5 % among them (10 pairs: more than 25) are tested by t instead. Accuracies are fractions of 1.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy import optimize, special, stats

Z = statistics.NormalDist().inv_cdf(0.975)  # 1.96: half of a 95 % interval in standard errors
LEVEL = 0.05
POWER = 0.8
FEWEST = 3  # seeds for an interval or a test
MANY = 10  # pairs for sign flips and BCa
EXACT = 16  # pairs up to which all 2^n sign flips are tried; beyond, so many of them drawn from a fixed seed
FLIPS = "sign flips, BCa"
FLAT = 1e-12  # a spread below is none: there is nothing to resample


def binomial_half_width(accuracy: float, rows: int, tests: int = 1) -> float:
    """Half of the 95 % interval of an accuracy (a fraction) that was counted on so many rows; infinite on none.

    tests: how many accuracies are held against it at once (Bonferroni).
    """
    z = Z if tests <= 1 else statistics.NormalDist().inv_cdf(1 - 0.025 / tests)
    return z * math.sqrt(accuracy * (1 - accuracy) / rows) if rows else math.inf


@dataclass(frozen=True)
class Summary:
    """Of a few runs. `deviation` is the sample standard deviation (divisor n - 1), None for a single run."""

    mean: float
    deviation: float | None
    count: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's 95 % interval of the mean over seeds; None below three of them."""
        if self.deviation is None or self.count < FEWEST:
            return None
        half = t_half_width(self.deviation, self.count)
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class Difference:
    """Of two rows over the seeds that both have finished, this row minus the other; fractions of 1.

    `interval`, `p` and `detectable` are None below three pairs. `p` is two-sided; `adjusted` is p after Holm over the
    differences that were adjusted together. `test_half_width` is the 95 % noise of the test rows, as if the two erred
    independently, which is too wide when they err alike. `detectable`: the smallest true difference that this many
    pairs of this spread would have separated in four of five repetitions, among the differences adjusted together.
    """

    mean: float
    deviation: float | None
    count: int
    interval: tuple[float, float] | None
    p: float | None
    adjusted: float | None
    method: str  # "t", FLIPS, "t, for so large a family" or nothing
    test_half_width: float
    detectable: float | None

    @property
    def separated(self) -> bool:
        """Beyond chance of the seeds (Holm-adjusted p below 5 %) and beyond the noise of the test rows."""
        return self.adjusted is not None and self.adjusted < LEVEL and abs(self.mean) > self.test_half_width


def summarise(values: Sequence[float]) -> Summary:
    """Raises statistics.StatisticsError when there is no value."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Summary(statistics.fmean(values), deviation, len(values))


def t_half_width(deviation: float, count: int) -> float:
    """Half of Student's 95 % interval of a mean."""
    return t_quantile(count) * deviation / math.sqrt(count)


@cache
def t_quantile(count: int, tests: int = 1) -> float:
    """Half of Student's 95 % interval in standard errors: 4.3 for three runs, 1.96 for very many.

    tests: how many such intervals are to hold at once (Bonferroni).
    """
    return float(stats.t.ppf(1 - LEVEL / 2 / tests, count - 1))


def half_width(summary: Summary, rows: int) -> float:
    """Noise of a mean accuracy against a fixed number: that of the test rows, which all seeds share, and half of
    Student's interval over the seeds, in quadrature; at two seeds, which have none, 1.96 standard errors."""
    if summary.deviation is None:
        return binomial_half_width(summary.mean, rows)
    quantile = t_quantile(summary.count) if summary.count >= FEWEST else Z
    seeds = quantile * summary.deviation / math.sqrt(summary.count)
    return math.hypot(binomial_half_width(summary.mean, rows), seeds)


def within_noise(summary: Summary, rows: int, rung: float) -> bool:
    """Whether a mean accuracy over seeds, on so many test rows, cannot be told from the rung of a ladder."""
    return abs(summary.mean - rung) <= half_width(summary, rows)


def difference(ours: Sequence[float], theirs: Sequence[float], rows: int) -> Difference:
    """Accuracies of two rows, paired in order by seed, on so many test rows -> their difference, not yet adjusted.

    Raises ValueError for sequences of different lengths, statistics.StatisticsError for empty ones.
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
    """The same differences as one family: p adjusted over all that have one, and what is detectable among so many.

    Of n pairs the smallest p by sign flips is 2 / 2^n: times the size of the family it must be below the level, or
    else the difference is tested by t.
    """
    size = sum(d.p is not None for d in differences.values())
    tested = {name: _among(d, size) for name, d in differences.items() if d.p is not None}
    adjusted = holm([d.p for d in tested.values() if d.p is not None])
    judged = {name: replace(d, adjusted=p) for (name, d), p in zip(tested.items(), adjusted, strict=True)}
    return {name: judged.get(name, d) for name, d in differences.items()}


def _among(d: Difference, size: int) -> Difference:
    """A tested difference as one of so many, before the adjustment."""
    summary = Summary(d.mean, d.deviation, d.count)
    if d.method == FLIPS and size * 2.0 ** (1 - min(d.count, EXACT)) >= LEVEL:
        d = replace(d, p=_t_p(summary, flat=False), interval=summary.interval, method="t, for so large a family")
    return replace(d, detectable=detectable(d.deviation or 0.0, d.count, size, d.test_half_width))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979): compare the result with the level itself."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, highest = [0.0] * len(ps), 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - place) * ps[i]))
        adjusted[i] = highest
    return adjusted


def detectable(deviation: float, count: int, tests: int = 1, noise: float = 0.0) -> float:
    """The smallest true mean of differences of this spread that is found with power 80 %.

    Found: by a two-sided t-test at 5 % over the number of tests, Holm's first step, and beyond the noise of the test
    rows. For sign flips it is an approximation: they find less, two in three where the family only just allows them.
    """
    if deviation < FLAT or not math.isfinite(noise):
        return noise
    error = deviation / math.sqrt(count)
    bars = np.maximum(noise / error, t_quantile(count, tests) * _spreads(count))
    shift = optimize.brentq(lambda c: special.ndtr(c - bars).mean() - POWER, 0.0, bars.max() + 1)
    return float(shift) * error  # pyright: ignore[reportArgumentType]


@cache
def _spreads(count: int) -> np.ndarray:
    """A thousand quantiles of the sample standard deviation of so many values whose true one is 1."""
    return np.sqrt(stats.chi2.ppf((np.arange(1000) + 0.5) / 1000, count - 1) / (count - 1))


def sign_flip_p(gains: Sequence[float]) -> float:
    """Two-sided p of a mean under random signs: exact up to 2^16 sign patterns, else over so many drawn ones."""
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
    """Exact two-sided McNemar test: samples that only the first or only the second of two models gets right."""
    total = only_first + only_second
    return float(stats.binomtest(only_first, total).pvalue) if total else 1.0


def paired_half_width(only_first: int, only_second: int, rows: int) -> float:
    """Half of the 95 % interval of the difference of two accuracies on the same rows, from the rows they differ on."""
    apart, gap = only_first + only_second, only_first - only_second
    return Z * math.sqrt(apart - gap * gap / rows) / rows


def _t_p(summary: Summary, flat: bool) -> float:
    if flat or summary.deviation is None:
        return 1.0 if abs(summary.mean) < 1e-12 else 0.0
    statistic = abs(summary.mean) / summary.deviation * math.sqrt(summary.count)
    return float(2 * stats.t.sf(statistic, summary.count - 1))
