"""Simulates how often the tests of `lra.stats` err, and how often they find a true difference.

    python tests/levels.py            # the table of docs/statistics.md; about 15 minutes on two cores
    python tests/levels.py 200        # with 200 repetitions of each line

The accuracy of a run is the mean of its row, plus an effect of its seed that all rows share (standard deviation 0.7
points), plus normal noise. A family-wise error is a table in which any difference to the baseline is called separated
although all means are equal. `not best` counts tables whose bold rows leave out row 0, although no row is better. Power
is the share of tables in which a true difference of 4.5 points, of one row among equal ones, is called separated; a
run's standard deviation is 1.3 points there.

Unusual tables: all rows but three answer a constant of another mean, so that only the three can err; all rows but two,
the baseline among them, answer a constant of the same mean, so that only the two can err; and the runs of one row have
a standard deviation of 4 points, those of all others 0.5.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from lra.stats.differences import Family

ROWS, SEEDS = (2, 5, 11, 23), (3, 5, 10)
LOW, HIGH, USUAL, GAP, SHARED = 0.3, 2.5, 1.3, 4.5, 0.7  # points
SPREADS = ("equal", "uniform", "log-uniform")  # how the rows' standard deviations are drawn: USUAL, or LOW to HIGH
CHANCE, WILD, ALONE = "three rows learn", "one row is wild", "the baseline is constant"
KINDS = (*SPREADS, CHANCE, WILD, ALONE)
UNUSUAL_ROWS, UNUSUAL_SEEDS = ROWS[2:], SEEDS[:2]
LEARN = {CHANCE: 3, ALONE: 2}  # rows that do not answer a constant
QUIET, LOUD = 0.5, 4.0  # points: standard deviations of the other rows and of the wild one in WILD
REPEATS = 3000


@dataclass(frozen=True)
class Line:
    """Results of one setting as shares of its repetitions; power only where the spreads are equal."""

    rows: int
    seeds: int
    spread: str
    error: float
    not_best: float
    power: float | None


def deviations(spread: str, rows: int, rng: np.random.Generator) -> np.ndarray:
    """A standard deviation for each row, in points."""
    if spread in ("equal", CHANCE, ALONE):
        return np.full(rows, USUAL)
    if spread == WILD:
        return np.where(np.arange(rows) == 1, LOUD, QUIET)
    if spread == "uniform":
        return rng.uniform(LOW, HIGH, rows)
    return np.exp(rng.uniform(np.log(LOW), np.log(HIGH), rows))


def family(rows: int, seeds: int, spread: str, rng: np.random.Generator, gap: float = 0.0) -> Family:
    """Rows '0', '1', ... with equal means, except '1', which is `gap` points higher; the test split has no noise."""
    noise = rng.normal(size=(rows, seeds)) * deviations(spread, rows, rng)[:, None]
    values = 50 + rng.normal(0, SHARED, seeds) + noise
    values[1] += gap
    constant = [row for row in range(rows) if not learns(row, spread)]
    values[constant] = 20 if spread == CHANCE else 50
    named = {
        str(row): {seed: float(v) / 100 for seed, v in enumerate(accuracies)} for row, accuracies in enumerate(values)
    }
    return Family(named, lambda *_: 0.0, [str(row) for row in constant])


def learns(row: int, spread: str) -> bool:
    """Whether a row learns rather than answers a constant; row 0 is the baseline."""
    return row < LEARN[CHANCE] if spread == CHANCE else 0 < row <= LEARN[ALONE] if spread == ALONE else True


def measure(rows: int, seeds: int, spread: str, repeats: int) -> Line:
    """One line of the table; its random numbers depend on its setting only."""
    rng = np.random.default_rng([rows, seeds, KINDS.index(spread)])
    equal = {str(row) for row in range(rows) if learns(row, spread)}
    wrong = missed = detected = 0
    for _ in range(repeats):
        null = family(rows, seeds, spread, rng)
        wrong += any(d.separated for row, d in null.against("0").items() if row in equal)
        best = null.may_be_best
        missed += bool(best) and "0" not in best
        if spread == "equal":
            detected += family(rows, seeds, spread, rng, GAP).against("0")["1"].separated
    power = detected / repeats if spread == "equal" else None
    return Line(rows, seeds, spread, wrong / repeats, missed / repeats, power)


def table(lines: list[Line]) -> str:
    """Markdown, in percent."""
    text = "| Rows | Seeds | Spreads | Family-wise error | Best not bold | Power |\n|---:|---:|:---|---:|---:|---:|\n"
    for line in lines:
        power = "" if line.power is None else f"{100 * line.power:.1f}"
        text += f"| {line.rows} | {line.seeds} | {line.spread} | {100 * line.error:.1f} | "
        text += f"{100 * line.not_best:.1f} | {power} |\n"
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repeats", type=int, nargs="?", default=REPEATS, help=f"of each line (default {REPEATS})")
    count = parser.parse_args().repeats
    settings = [(rows, seeds, spread, count) for rows in ROWS for seeds in SEEDS for spread in SPREADS]
    unusual = [(rows, seeds) for rows in UNUSUAL_ROWS for seeds in UNUSUAL_SEEDS]
    settings += [(*size, kind, count) for kind in (CHANCE, WILD, ALONE) for size in unusual]
    with ProcessPoolExecutor() as pool:
        print(table(list(pool.map(measure, *zip(*settings, strict=True)))), end="")
