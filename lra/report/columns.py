"""The columns that every table of a report can show beside the accuracies: one list, read by all of them.

To add a column, add a line to COLUMNS: its heading, value, format, the tables that show it, and `csv_name`, its column
in cells.csv. A fact about each run needs none: every plain field of `Record` is in runs.csv.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from lra.report.cells import Cell, TaskColumn, left_chance
from lra.report.conditions import machine
from lra.report.format import DASH, span
from lra.report.groups import Group, fidelity
from lra.results.record import Record, budget_of

COMPARISON = "comparison"  # the table of accuracies in Markdown and LaTeX, and what the terminal prints
GIVEN = "given"  # 'What each row was given', in Markdown and LaTeX
PAGE = "page"  # the page's leaderboard
DEMAND = "demand"  # the page's leaderboard, on demand only ('all columns')
Values = Sequence[Any]


@dataclass(frozen=True)
class Row:
    """What a column's value is computed from: one row of a table, over all its tasks or over one."""

    name: str
    group: Group
    cells: tuple[Cell, ...]

    @property
    def records(self) -> list[Record]:
        return [r for cell in self.cells for r in cell.records]

    @property
    def done(self) -> list[Record]:
        return [r for cell in self.cells for r in cell.done]

    @property
    def timed(self) -> list[Record]:
        """The finished runs on the machine of the table, whose speed and memory can be compared."""
        return [r for r in self.done if machine(r.environment) == self.group.machine]


def row_of(group: Group, name: str, columns: Iterable[TaskColumn] | None = None) -> Row:
    """A row of the group over its cells in these task columns, by default in all."""
    wanted = group.columns if columns is None else columns
    return Row(name, group, tuple(c.cells[name] for c in wanted if name in c.cells))


def ranged(form: str = "{:,.0f}", digits: int = 12, scale: float = 1) -> Callable[[Values], str]:
    """The format of numbers: their range, each divided by `scale`; see `span`."""
    return lambda values: span([value / scale for value in values], form, digits)


def worded(values: Values) -> str:
    """The format of words: each once, without what follows a colon ('adapted: 1-D convolution' is 'adapted')."""
    return "; ".join(dict.fromkeys(value.partition(":")[0] for value in values if value)) or DASH


def counted(values: Values) -> str:
    """The format of yes and no: '4 of 5'."""
    return f"{sum(values)} of {len(values)}" if values else DASH


@dataclass(frozen=True)
class Column:
    """A column. value: the values of a row's runs, None where unknown; numbers in seconds, bytes and fractions of 1.

    where: the tables that show it. csv_name: its column in cells.csv, or '' for none; `combine` makes one number of
    several there. ascending: the page's first click sorts upwards, because less is better.
    """

    heading: str
    value: Callable[[Row], Iterable[Any]]
    format: Callable[[Values], str]
    where: tuple[str, ...]
    csv_name: str = ""
    combine: Callable[[Values], float] = fmean
    ascending: bool = False

    def values(self, row: Row) -> list[Any]:
        return [value for value in self.value(row) if value is not None]

    def text(self, row: Row) -> str:
        """The cell of a table; a dash where nothing is known."""
        values = self.values(row)
        return self.format(values) if values else DASH

    def plain(self, row: Row) -> float | str | None:
        """The value in cells.csv; None where nothing is known."""
        values = self.values(row)
        if not values:
            return None
        return "; ".join(dict.fromkeys(values)) if isinstance(values[0], str) else self.combine(values)


def tuning(record: Record) -> str:
    """How many values of which settings were tried to choose this run's: '3 of train.lr', or 'none'."""
    values: dict[str, list[Any]] = budget_of(record.tuning).get("values", {})
    return f"{math.prod(map(len, values.values()))} of {', '.join(values)}" if values else "none"


def _size(key: str) -> Callable[[Row], Iterable[Any]]:
    return lambda row: (r.parameters.get(key) for r in row.records)


COLUMNS = (
    Column("Parameters", _size("total"), ranged(), (COMPARISON, GIVEN, PAGE), "parameters", ascending=True),
    Column("without embeddings", _size("without_embeddings"), ranged(), (GIVEN, DEMAND),
           "parameters_without_embeddings", ascending=True),
    Column("attention's own", _size("attention"), ranged(), (GIVEN, DEMAND), "parameters_attention", ascending=True),
    Column("Tokens/s", lambda row: (r.tokens_per_second for r in row.timed), ranged(digits=3), (COMPARISON, PAGE),
           "tokens_per_second"),
    Column("ms/step at 4K", lambda row: [row.group.milliseconds.get(row.name)], ranged("{:.1f}"), (GIVEN, PAGE),
           ascending=True),
    Column("Peak GB", lambda row: (r.peak_bytes for r in row.timed), ranged("{:.2f}", scale=1e9), (GIVEN, PAGE),
           "peak_bytes", ascending=True),
    Column("Taps", lambda row: ((r.attention.get("options") or {}).get("conv") for r in row.records), ranged(),
           (GIVEN, DEMAND), "taps"),
    Column("Precision", lambda row: [row.group.precision], worded, (GIVEN,)),
    Column("Learning rate", lambda row: (r.config.get("train", {}).get("lr") for r in row.records), ranged("{:g}"),
           (GIVEN, DEMAND), "lr"),
    Column("Tuning", lambda row: map(tuning, row.records), worded, (GIVEN, DEMAND), "tuning"),
    Column("Learned", lambda row: (left_chance(r) for r in row.done), counted, (GIVEN, DEMAND), "learned", sum),
    Column("Fidelity", lambda row: map(fidelity, row.records), worded, (GIVEN, DEMAND), "fidelity"),
)  # fmt: skip


def shown_in(*tables: str) -> list[Column]:
    """The columns that one of these tables shows, in their order."""
    return [column for column in COLUMNS if set(tables) & set(column.where)]


def numbers(row: Row) -> Mapping[str, float | str | None]:
    """Name in cells.csv -> value."""
    return {column.csv_name: column.plain(row) for column in COLUMNS if column.csv_name}
