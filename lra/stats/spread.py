"""How much the runs of each row differ, estimated with the help of all rows of a column."""

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

CAUTION = 85  # extra difference assumed between the spreads of few rows: see `moderate`; chosen with tests/levels.py
FEW = 3  # the smallest number of rows whose spreads are moderated
FLAT = 1e-12  # a smaller deviation counts as none
Values = Mapping[str, Mapping[int, float]]  # row -> seed -> accuracy


@dataclass(frozen=True)
class Spread:
    """The variance of a row's runs, and how many degrees of freedom the estimate has."""

    variance: float
    freedom: float


def spreads(values: Values, apart: Collection[str] = ()) -> dict[str, Spread]:
    """Row -> the moderated variance of its runs about the effects of row and seed; rows of one run have none.

    apart: rows whose spread says nothing about that of the others, such as rows that answer a constant: the seed has no
    effect on them and their runs hardly differ, so they would make the other rows look less variable. Each of them
    keeps its own variance.
    """
    alone = {row: spread for row in apart if row in values and (spread := _own(values[row]))}
    return alone | _about_seeds({row: runs for row, runs in values.items() if row not in apart})


def totals(values: Values, apart: Collection[str] = ()) -> tuple[dict[str, Spread], Spread | None]:
    """Row -> the moderated variance of its runs about their mean; and the average variance, for a row of one run.

    apart: as for `spreads`; these rows count in neither.
    """
    raw = {row: spread for row, runs in values.items() if row not in apart and (spread := _own(runs))}
    if not raw:
        return {}, None
    moderated = moderate([*raw.values()])
    freedoms = [spread.freedom for spread in moderated]
    average = float(np.average([spread.variance for spread in moderated], weights=freedoms))
    usual = Spread(average, min(freedoms) if len(moderated) >= FEW else sum(freedoms))
    return dict(zip(raw, moderated, strict=True)), usual


def _own(runs: Mapping[int, float]) -> Spread | None:
    """The variance of one row's runs; None for a single run."""
    return Spread(statistics.variance(runs.values()), len(runs) - 1) if len(runs) > 1 else None


def _about_seeds(values: Values) -> dict[str, Spread]:
    runs = [(row, seed, accuracy) for row, by_seed in values.items() for seed, accuracy in by_seed.items()]
    if not runs:
        return {}
    names, seeds = list(values), sorted({seed for _, seed, _ in runs})
    design = np.zeros((len(runs), len(names) + len(seeds)))
    for i, (row, seed, _) in enumerate(runs):
        design[i, names.index(row)] = design[i, len(names) + seeds.index(seed)] = 1
    hat = design @ np.linalg.pinv(design)
    residuals = (np.eye(len(runs)) - hat) @ np.array([accuracy for *_, accuracy in runs])
    estimates = {}
    for row in names:
        indices = [i for i, run in enumerate(runs) if run[0] == row]
        freedom = len(indices) - sum(hat[i, i] for i in indices)
        if freedom > 1e-6:
            estimates[row] = Spread(float(np.sum(residuals[indices] ** 2) / freedom), float(freedom))
    return dict(zip(estimates, moderate([*estimates.values()]), strict=True))


def moderate(found: Sequence[Spread]) -> list[Spread]:
    """Draw each variance towards their average, the further the less they differ (Smyth 2004, section 6.2).

    With a prior of d0 degrees of freedom a variance becomes (d0 common + d own) / (d0 + d), with d0 + d degrees of
    freedom. d0 follows from the excess of the variance of their logarithms over the part that chance explains. Few rows
    hardly show an excess, so CAUTION / rows^2 times the part of chance is added to it. Fewer than FEW variances, and
    variances that are all zero, are returned unchanged.
    """
    variances, freedoms = (np.array([getattr(s, name) for s in found]) for name in ("variance", "freedom"))
    if len(found) < FEW or not variances.max(initial=0.0) > FLAT**2:
        return list(found)
    common = float(np.average(variances, weights=freedoms))
    logs = np.log(np.maximum(variances, 1e-3 * common)) - special.digamma(freedoms / 2) + np.log(freedoms / 2)
    chance = float(np.mean(special.polygamma(1, freedoms / 2)))
    excess = float(np.var(logs, ddof=1)) - chance + chance * CAUTION / len(found) ** 2
    prior = 2 * _inverse_trigamma(max(excess, 1e-3))
    return [Spread((prior * common + s.freedom * s.variance) / (prior + s.freedom), prior + s.freedom) for s in found]


def _inverse_trigamma(value: float) -> float:
    """x > 0 with trigamma(x) = value > 0."""
    root = optimize.brentq(lambda x: float(special.polygamma(1, x)) - value, 1e-8, 1e8, xtol=1e-14)
    return float(root)  # pyright: ignore[reportArgumentType]
