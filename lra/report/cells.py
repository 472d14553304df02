"""A cell of a comparison table, one record per seed, and a task's column of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lra.results.record import Record, hits
from lra.stats.accuracy import Summary, summarise, within_noise
from lra.stats.differences import Difference, Family

LATE = 0.95  # of the training steps: a best step beyond it is called late
PLAIN = ("", "generated", "official", "user's", "own")  # labels of data that a heading need not name


@dataclass(frozen=True)
class Cell:
    """The runs of one row on one column: one record per seed."""

    records: tuple[Record, ...]

    @property
    def done(self) -> list[Record]:
        return [r for r in self.records if r.status == "done" and r.test_accuracy is not None]

    @property
    def summary(self) -> Summary | None:
        """Test accuracy over the finished seeds."""
        return summarise([r.test_accuracy for r in self.done if r.test_accuracy is not None]) if self.done else None

    @property
    def test_rows(self) -> int:
        return min((r.test_rows for r in self.done), default=0)

    @property
    def learned(self) -> int:
        """How many finished runs left chance, those that were not judged included."""
        return sum(r.learned is not False for r in self.done)

    @property
    def late(self) -> int:
        """How many finished runs had their best step in the last 5 % of training: longer ones might score higher."""
        steps = [(r.best_step, r.config.get("train", {}).get("steps")) for r in self.done]
        return sum(best is not None and bool(total) and best > LATE * total for best, total in steps)

    @property
    def lost(self) -> dict[str, int]:
        """How many runs diverged and how many failed, where there are any."""
        counts = {status: self.count(status) for status in ("diverged", "failed")}
        return {status: count for status, count in counts.items() if count}

    @property
    def accuracies(self) -> dict[int, float]:
        """Seed -> test accuracy of the finished runs."""
        return {r.seed: r.test_accuracy for r in self.done if r.test_accuracy is not None}

    @cached_property
    def right(self) -> dict[int, np.ndarray]:
        """Seed -> whether the model answered each test row correctly (rows,), of the runs whose records say so."""
        known = {r.seed: hits(r) for r in self.done}
        return {seed: np.array(found, dtype=np.float32) for seed, found in known.items() if found is not None}

    def count(self, status: str) -> int:
        return sum(r.status == status for r in self.records)


@dataclass(frozen=True)
class TaskColumn:
    """One task on one data set under one configuration; `cells` by row."""

    task: str
    title: str
    label: str  # of the data
    data_hash: str
    ladder: dict[str, float]
    cells: dict[str, Cell]

    @property
    def heading(self) -> str:
        """The title, and the data's label where it is neither usual nor in the title: 'Retrieval (uniform pairs)'."""
        return self.title if self.label in PLAIN or self.label in self.title else f"{self.title} ({self.label})"

    @cached_property
    def tests(self) -> Family:
        """The rows of the column, tested against each other."""
        values = {row: cell.accuracies for row, cell in self.cells.items() if cell.done}
        return Family(values, lambda row, other, seeds: rows_variance(self.cells[row], self.cells[other], seeds))

    @property
    def not_separated(self) -> set[str]:
        """The rows that may be the best: see `Family.best`; empty where no row is separated from it."""
        return self.tests.best

    def against(self, baseline: str) -> dict[str, Difference]:
        """Row -> its difference to the baseline over common seeds, adjusted over the rows; empty if that has no run."""
        return self.tests.against(baseline) if baseline in self.tests.values else {}

    def rung_of(self, row: str) -> str:
        """The nearest rung of the ladder, if the cell's mean is within noise of it; else nothing."""
        summary, rows = self.cells[row].summary, self.cells[row].test_rows
        if summary is None or not rows:
            return ""
        near = {name: abs(summary.mean - a) for name, a in self.ladder.items() if within_noise(summary, rows, a)}
        return min(near, key=lambda name: near[name]) if near else ""


def rows_variance(first: Cell, second: Cell, seeds: Sequence[int], same_rows: bool = False) -> float:
    """The variance of the difference of two cells that comes from the finite test split, however many seeds there are.

    It is estimated from the rows on which the models differ: the component of the test rows in a two-way analysis of
    seeds and rows. Where records do not say which rows they got right, or of other data, the two count as independent.
    Of the same data a shorter list of answers lacks the last rows (`train.drop_last`). same_rows: row i is the same
    sample in both, although their data have different hashes, as of trees with and without brackets.
    """
    same = {record.data.get("hash") for cell in (first, second) for record in cell.done}
    pairs = [(first.right.get(seed), second.right.get(seed)) for seed in seeds]
    known = [_gaps(a, b) for a, b in pairs if a is not None and b is not None]
    rows = min(first.test_rows, second.test_rows)
    if not rows:
        return math.inf
    if len(known) < len(pairs) or (len(same) > 1 and not same_rows):
        means = [summary.mean for cell in (first, second) if (summary := cell.summary)]
        return sum(mean * (1 - mean) for mean in means) / rows
    return _rows_component(np.stack(known).astype(np.float64))


def _gaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """What each row adds to the difference of two accuracies, of which one may have been counted on fewer rows."""
    if len(first) == len(second):
        return first - second
    rows = max(len(first), len(second))
    sides = [(right - right.mean()) * (rows / len(right)) for right in (first, second)]
    return np.pad(sides[0], (0, rows - len(first))) - np.pad(sides[1], (0, rows - len(second)))


def same_answers(first: Cell, second: Cell) -> bool:
    """Whether both got the same rows right, seed by seed, on all rows that both were tested on."""
    seeds = first.right.keys() & second.right.keys()
    pairs = [(first.right[seed], second.right[seed]) for seed in seeds]
    return len(seeds) == len(first.done) == len(second.done) and all(
        np.array_equal(a[: len(b)], b[: len(a)]) for a, b in pairs
    )


def _rows_component(gaps: np.ndarray) -> float:
    """Gaps (seeds, rows) -> the variance of their mean that comes from the choice of the rows."""
    seeds, rows = gaps.shape
    by_row = gaps.mean(axis=0)
    total = float(by_row.var(ddof=1))
    if seeds > 1:  # less what seeds and rows do together: that is in the spread of the runs
        rest = gaps - by_row - gaps.mean(axis=1, keepdims=True) + gaps.mean()
        total -= float((rest**2).sum() / ((seeds - 1) * (rows - 1)) / seeds)
    return max(total, 0.0) / rows
