"""Tests of the rows of a column against each other; p values that are reported together are adjusted together."""

import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import optimize, special

from lra.stats.accuracy import FEWEST, LEVEL, Z
from lra.stats.spread import FEW, FLAT, Spread, Values, moderate, spreads, totals

POWER = 0.8
MOST = 1e9  # degrees of freedom: Student's t is normal there
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(61)  # to average over a standard normal variable


@dataclass(frozen=True)
class Difference:
    """A row minus another over the `count` seeds that both have finished.

    error: the standard error, from the spread of the runs and from the test rows; freedom: its degrees of freedom.
    `p` is two-sided; `adjusted` is p adjusted for all differences that were tested together. `detectable` is the
    smallest true difference that such runs separate in about four of five repetitions, a median-unbiased estimate; None
    beside a row that answers a constant. These and `interval` are None below three seeds. test_half_width: the part of
    the interval's half width that comes from the finite test split, which more seeds do not reduce.
    """

    mean: float
    count: int
    error: float
    freedom: float
    test_half_width: float
    interval: tuple[float, float] | None = None
    p: float | None = None
    adjusted: float | None = None
    detectable: float | None = None

    @property
    def separated(self) -> bool:
        """Whether the adjusted p is below 5 %."""
        return self.adjusted is not None and self.adjusted < LEVEL


class Family:
    """The rows of one column, tested against each other and against given numbers; rows may differ in their seeds.

    An accuracy is modelled as its row's mean, plus the effect of its seed on all rows, plus noise whose variance
    differs from row to row; the estimates of that variance are moderated (`moderate`). A difference over common seeds
    is tested by Student's t with Welch's degrees of freedom. Differences to one row are adjusted together by Dunnett's
    step-down test (Dunnett and Tamhane 1991), which takes into account that they share the noise of that row.

    values: row -> seed -> accuracy. split_variance: (row, other row, their common seeds) -> the part of the variance of
    their difference that comes from the finite test split. constant: the rows that answer a constant, whose spread
    says nothing about that of the others.
    """

    def __init__(
        self,
        values: Values,
        split_variance: Callable[[str, str, Sequence[int]], float],
        constant: Collection[str] = (),
    ):
        self.values, self.split_variance, self.constant = values, split_variance, constant
        self.spreads = spreads(values, constant)
        self.totals, self.usual = totals(values, constant)

    def near(self, row: str, number: float, rows: float) -> bool:
        """Is the mean of a row not distinguishable from a number, at 5 %? rows: the variance that the test rows add.

        The test is Student's t over the row's runs, with their moderated variance. A row of a single run takes the
        column's average variance, and so does every row where fewer than three rows have several runs. Where no row
        has several runs, only the test rows count.
        """
        accuracies = self.values[row].values()
        spread = self.totals.get(row, self.usual) if len(self.totals) >= FEW else self.usual
        d = _test(statistics.fmean(accuracies) - number, len(accuracies), [spread] if spread else [], rows)
        return d.p is not None and d.p >= LEVEL

    def against(self, baseline: str) -> dict[str, Difference]:
        """Row -> its difference to the baseline, for every row that has a seed in common with it."""
        differences = self._differences(baseline)
        tested = {row: d for row, d in differences.items() if d.p is not None}
        adjusted, least = self._adjust(tested, baseline)
        telling = set() if baseline in self.constant else tested.keys() - set(self.constant)
        judged = {
            row: replace(d, adjusted=adjusted[row], detectable=least(d) if row in telling else None)
            for row, d in tested.items()
        }
        return {row: judged.get(row, d) for row, d in differences.items()}

    @cached_property
    def may_be_best(self) -> set[str]:
        """The rows that may be the best: the highest and all not separated from it; empty if none is separated.

        The truly best row is among them with a probability of at least 95 % if the model holds (Hsu 1984): a row is
        left out if its difference to the highest row is separated after adjustment over its differences to all rows.
        Rows that share fewer than three seeds with the highest row are not judged. The set is also empty if the highest
        row has fewer than three seeds.
        """
        everyone = {row: statistics.fmean(runs.values()) for row, runs in self.values.items()}
        means = {row: mean for row, mean in everyone.items() if len(self.values[row]) >= FEWEST}
        highest = max(everyone, key=lambda row: everyone[row], default="")
        if highest not in means:
            return set()
        judged = {row for row, d in self._differences(highest).items() if row in means and d.p is not None}
        kept = {highest}
        for row in judged:
            differences = self._differences(row)
            tested = {other: d for other, d in differences.items() if other in judged | {highest} and d.p is not None}
            d = tested[highest]
            if d.mean <= 0 or self._together(_z(d), tested, row) >= LEVEL:
                kept.add(row)
        return kept if len(kept) <= len(judged) else set()

    def _differences(self, baseline: str) -> dict[str, Difference]:
        """The differences to a row, not adjusted yet."""
        differences = {row: self._difference(row, baseline) for row in self.values if row != baseline}
        return {row: d for row, d in differences.items() if d is not None}

    def _difference(self, row: str, baseline: str) -> Difference | None:
        runs, baseline_runs = self.values[row], self.values[baseline]
        seeds = sorted(runs.keys() & baseline_runs.keys())
        if not seeds:
            return None
        mean = statistics.fmean(runs[s] - baseline_runs[s] for s in seeds)
        rows = self.split_variance(row, baseline, seeds)
        known = [s for s in (self._spread(row, baseline), self._spread(baseline, row)) if s is not None]
        if len(seeds) < FEWEST or len(known) < 2:
            return Difference(mean, len(seeds), math.nan, math.nan, Z * math.sqrt(rows))
        return _test(mean, len(seeds), known, rows)

    def _spread(self, row: str, other: str) -> Spread | None:
        """How much a row's runs differ, for its comparison with another row; None where the row has too few runs.

        The effect of a seed on all rows cancels between two rows that learn, but not against one that answers a
        constant.
        """
        against_constant = other in self.constant and row not in self.constant
        return (self.totals if against_constant else self.spreads).get(row)

    def _adjust(
        self, tested: Mapping[str, Difference], baseline: str
    ) -> tuple[dict[str, float], Callable[[Difference], float]]:
        """Row -> its adjusted p; and a function from a difference to the smallest detectable one."""
        order = sorted(tested, key=lambda row: -_z(tested[row]))
        adjusted, highest = {}, 0.0
        for rank, row in enumerate(order):
            rest = {name: tested[name] for name in order[rank:]}
            highest = adjusted[row] = max(highest, self._together(_z(tested[row]), rest, baseline))
        if not order:
            return {}, lambda _: math.inf
        bar = optimize.brentq(lambda z: self._together(z, tested, baseline) - LEVEL, 0.0, 40.0, xtol=1e-14)
        tail = float(special.ndtr(-bar))  # pyright: ignore[reportOperatorIssue]
        return adjusted, lambda d: _middle(d) * (t_of(POWER, d.freedom) - t_of(tail, d.freedom))

    def _together(self, z: float, differences: Mapping[str, Difference], baseline: str) -> float:
        """The probability that the largest of these differences reaches |z| if none is real.

        Given the noise of the baseline, which they share, the differences are independent; each t is replaced by the z
        of the same p.
        """
        of_baseline = [(self._spread(baseline, row), d) for row, d in differences.items()]
        shares = [s.variance / d.count / max(d.error**2, FLAT**2) for s, d in of_baseline if s is not None]
        shared = np.array(shares).clip(0, 1 - 1e-9)
        ends = np.sqrt(shared)[:, None] * NODES / np.sqrt(1 - shared)[:, None]
        width = (z / np.sqrt(1 - shared))[:, None]
        outside = (special.ndtr(ends - width) + special.ndtr(-ends - width)).clip(max=1 - 1e-12)
        return float(-np.expm1(np.log1p(-outside).sum(axis=0)) @ WEIGHTS / WEIGHTS.sum())


def paired(gains: Mapping[str, Sequence[float]], split_variance: Mapping[str, float]) -> dict[str, Difference]:
    """Name -> the mean difference of its gains by seed; spreads are moderated, p is adjusted over all (Holm 1979).

    The differences may share runs: Holm's adjustment holds under any dependence, but `moderate` treats their spreads as
    independent.
    """
    known = {name: Spread(float(np.var(g, ddof=1)), len(g) - 1) for name, g in gains.items() if len(g) >= FEWEST}
    known = dict(zip(known, moderate([*known.values()]), strict=True))
    differences = {}
    for name, values in gains.items():
        mean, rows = statistics.fmean(values), split_variance[name]
        blank = Difference(mean, len(values), math.nan, math.nan, Z * math.sqrt(rows))
        differences[name] = _test(mean, len(values), [known[name]], rows) if name in known else blank
    tested = [name for name, d in differences.items() if d.p is not None]
    adjusted = holm([differences[name].p or 0.0 for name in tested])
    return differences | {
        name: replace(differences[name], adjusted=p) for name, p in zip(tested, adjusted, strict=True)
    }


def _test(mean: float, count: int, known: Sequence[Spread], rows: float) -> Difference:
    """Student's test of a mean of `count` runs with the spreads `known`; rows: the variance that the test rows add."""
    parts = [s.variance / count for s in known]
    total = sum(parts) + rows
    if total < FLAT**2 or not math.isfinite(total):
        p = 0.0 if total < FLAT**2 <= abs(mean) else 1.0
        return Difference(mean, count, math.sqrt(total), math.inf, Z * math.sqrt(rows), None, p)
    welch = sum(part**2 / s.freedom for part, s in zip(parts, known, strict=True))
    error, freedom = math.sqrt(total), total**2 / welch if welch else math.inf
    half = -t_of(LEVEL / 2, freedom) * error
    p = 2 * float(special.stdtr(min(freedom, MOST), -abs(mean) / error))
    return Difference(mean, count, error, freedom, Z * math.sqrt(rows), (mean - half, mean + half), p)


def _middle(d: Difference) -> float:
    """The median-unbiased standard error: the usual estimate is too small more often than too large."""
    freedom = min(d.freedom, MOST)
    return d.error * math.sqrt(freedom / float(special.chdtri(freedom, 0.5)))


def t_of(p: float, freedom: float) -> float:
    """The quantile of Student's t."""
    return float(special.stdtrit(min(freedom, MOST), p))


def _z(d: Difference) -> float:
    """The standard normal value that has the difference's p; finite for a p of 0."""
    return float(-special.ndtri(max(d.p or 0.0, 1e-300) / 2))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979); the results are compared with the level itself."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = highest
    return adjusted
