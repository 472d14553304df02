"""A cell of a comparison table, one record per seed, and a task's column of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lra.results.record import Record, hits
from lra.stats.accuracy import Summary, binomial_half_width, binomial_variance, summarise
from lra.stats.differences import Difference, Family

LATE = 0.95  # the share of the training steps after which an evaluation belongs to the end
CONSTANT = "constant"  # the rung of a constant answer
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
        """How many finished runs left chance, including those that were not judged."""
        return sum(left_chance(r) for r in self.done)

    @property
    def rising(self) -> int:
        """How many finished runs left chance and were still rising at the end."""
        return sum(left_chance(r) and is_rising(r) for r in self.done)

    @property
    def mostly_rising(self) -> bool:
        """Were most finished runs still rising, so that longer training might score higher?"""
        return 2 * self.rising > len(self.done)

    @property
    def lost(self) -> dict[str, int]:
        """Status -> how many runs diverged or failed; without the status that no run has."""
        counts = {status: self.count(status) for status in ("diverged", "failed")}
        return {status: count for status, count in counts.items() if count}

    @property
    def accuracies(self) -> dict[int, float]:
        """Seed -> test accuracy of the finished runs."""
        return {r.seed: r.test_accuracy for r in self.done if r.test_accuracy is not None}

    @cached_property
    def right(self) -> dict[int, np.ndarray]:
        """Seed -> (rows,), 1 where the model got the test row right, else 0; for the runs whose records say so."""
        known = {r.seed: hits(r) for r in self.done}
        return {seed: np.array(answers, dtype=np.float32) for seed, answers in known.items() if answers is not None}

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
        constant = [row for row in values if not self.cells[row].learned]

        def noise(row: str, other: str, seeds: Sequence[int]) -> float:
            return split_variance(self.cells[row], self.cells[other], seeds)

        return Family(values, noise, constant)

    @property
    def not_separated(self) -> set[str]:
        """The rows that may be the best: see `Family.may_be_best`; empty where no row is separated from the highest."""
        return self.tests.may_be_best

    def against(self, baseline: str) -> dict[str, Difference]:
        """Row -> its adjusted difference to the baseline over common seeds; empty if the baseline did not finish."""
        return self.tests.against(baseline) if baseline in self.tests.values else {}

    def rung_of(self, row: str) -> str:
        """The nearest of the ladder's rungs from which the cell's mean is not distinguishable; empty if there is none.

        The rung was counted on the same test rows, but its noise is taken as independent, which overestimates the noise
        of the difference. A cell whose runs are all at chance has no rung: they answer a constant.
        """
        cell = self.cells[row]
        if (summary := cell.summary) is None or not cell.test_rows or not cell.learned:
            return ""
        variance = binomial_variance(summary.mean, cell.test_rows)
        near = {
            name: abs(summary.mean - rung)
            for name, rung in self.ladder.items()
            if self.tests.near(row, rung, variance + binomial_variance(rung, cell.test_rows))
        }
        return min(near, key=lambda name: near[name]) if near else ""


def left_chance(record: Record) -> bool:
    """Did the run do better than a constant answer? True if that was not judged (`Record.learned` is None).

    It did if its validation accuracy says so (`Record.learned`), or if its test accuracy is above that of the constant
    answer by more than the noise of the test rows.
    """
    if record.learned is not False:
        return True
    constant, reached = record.ladder.get(CONSTANT), record.test_accuracy
    if constant is None or reached is None:
        return False
    return reached > constant + binomial_half_width(constant, record.test_rows)


def is_rising(record: Record) -> bool:
    """Is the best validation accuracy of the last 5 % of training more than a standard error above the best before?

    The standard error is that of a difference of accuracies on different samples; on the same samples it is smaller.
    """
    total = record.config.get("train", {}).get("steps") or math.inf
    points = [(p.get("step", 0), p["validation_accuracy"]) for p in record.curve if "validation_accuracy" in p]
    before, end = ([a for step, a in points if (step > LATE * total) == late] for late in (False, True))
    if not before or not end:
        return False
    return max(end) - max(before) > math.sqrt(2 * binomial_variance(max(before), validation_rows(record)))


def validation_rows(record: Record) -> int:
    """How many samples an evaluation during training counts; 0 where the record does not say."""
    train = record.config.get("train", {})
    sampled = train.get("validation_batches", 0) * train.get("batch", 0)
    return sampled or record.data.get("rows", {}).get("validation", 0)


def split_variance(first: Cell, second: Cell, seeds: Sequence[int], same_rows: bool = False) -> float:
    """The variance of the difference of two cells that comes from the finite test split, whatever the number of seeds.

    It is estimated from the rows on which the models differ: the component of the test rows in a two-way analysis of
    seeds and rows. Where records do not say which rows they got right, or are of different data, the two cells count as
    independent. With the same data a shorter list of answers lacks the last rows (`train.drop_last`). same_rows: row i
    is the same sample in both cells although the hashes of their data differ, as for trees with and without brackets.
    Infinite with fewer than two test rows.
    """
    same = {record.data.get("hash") for cell in (first, second) for record in cell.done}
    pairs = [(first.right.get(seed), second.right.get(seed)) for seed in seeds]
    known = [_gaps(a, b) for a, b in pairs if a is not None and b is not None]
    rows = min(first.test_rows, second.test_rows)
    if rows < 2:
        return math.inf
    if len(known) < len(pairs) or (len(same) > 1 and not same_rows):
        means = [summary.mean for cell in (first, second) if (summary := cell.summary)]
        return sum(mean * (1 - mean) for mean in means) / rows
    return _rows_component(np.stack(known).astype(np.float64))


def _gaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(rows,), what each row adds to the difference of two accuracies, one of which may be counted on fewer rows."""
    if len(first) == len(second):
        return first - second
    rows = max(len(first), len(second))
    sides = [(right - right.mean()) * (rows / len(right)) for right in (first, second)]
    return np.pad(sides[0], (0, rows - len(first))) - np.pad(sides[1], (0, rows - len(second)))


def same_answers(first: Cell, second: Cell) -> bool:
    """Whether both cells got the same rows right, seed by seed, among the rows that both were tested on."""
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
    if seeds > 1:  # less the interaction of seeds and rows, which is part of the spread of the runs
        rest = gaps - by_row - gaps.mean(axis=1, keepdims=True) + gaps.mean()
        total -= float((rest**2).sum() / ((seeds - 1) * (rows - 1)) / seeds)
    return max(total, 0.0) / rows
