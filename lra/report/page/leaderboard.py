"""The page's leaderboard: headings and figures with what they say, how they sort and what is shown below them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from lra.report import columns
from lra.report.cells import Cell, TaskColumn
from lra.report.columns import Column, Row
from lra.report.format import DAGGER, DASH, percent
from lra.report.groups import Group, average, best_trivial


@dataclass(frozen=True)
class Heading:
    """A heading. data: key of the data filter. more: on demand. first: order of the first sort. sorts: is sortable."""

    title: str
    data: str = ""
    more: bool = False
    first: str = "descending"
    sorts: bool = True


@dataclass(frozen=True)
class Figure:
    """'41.4' with '± 0.2 (2)' in a lighter tone and lines in small print under it. sort: the number to sort by."""

    text: str = DASH
    spread: str = ""
    under: tuple[str, ...] = ()
    sort: float | None = None
    best: bool = False
    lost: bool = False


@dataclass(frozen=True)
class Leaderboard:
    """The figures of every row; the page writes the row's name itself."""

    headings: tuple[Heading, ...]
    trivial: tuple[Figure, ...]
    rows: dict[str, tuple[Figure, ...]]


def data_key(column: TaskColumn) -> str:
    """The name of a data set in the page's filter."""
    return f"{column.task}-{column.data_hash[:12]}"


def board(group: Group) -> Leaderboard:
    """The leaderboard of one group: tasks, averages, and the columns that some row fills."""
    row_data = {row: columns.row_of(group, row) for row in group.rows}
    others = [
        column
        for column in columns.shown_in(columns.PAGE, columns.DEMAND)
        if any(column.values(row) for row in row_data.values())
    ]
    headings = [Heading(c.heading, data_key(c)) for c in group.columns]
    headings += [Heading(title) for title in group.averages]
    headings += [_heading(column) for column in others]
    best = {c.task: c.not_separated for c in group.columns}
    rows = {}
    for row in group.rows:
        figures = [_accuracy(c, row, row in best[c.task]) for c in group.columns]
        for averaged in group.averages.values():
            mean = average(averaged, row)
            figures.append(Figure() if mean is None else Figure(percent(mean), sort=mean))
        rows[row] = (*figures, *(_other(column, row_data[row]) for column in others))
    sorts = [any(figure.sort is not None for figure in cells) for cells in zip(*rows.values(), strict=True)]
    headings = [replace(heading, sorts=sortable) for heading, sortable in zip(headings, sorts, strict=True)]
    return Leaderboard(tuple(headings), tuple(_trivial(group, len(headings))), rows)


def _heading(column: Column) -> Heading:
    first = "ascending" if column.ascending else "descending"
    return Heading(column.heading, more=columns.DEMAND in column.where, first=first)


def _other(column: Column, row: Row) -> Figure:
    """A figure beside the accuracies; what follows a colon in words ('adapted: 1-D convolution') goes under it."""
    values: Sequence[Any] = column.values(row)
    if not values:
        return Figure()
    if isinstance(values[0], str):
        details = dict.fromkeys(detail for value in values if (detail := value.partition(": ")[2]))
        return Figure(column.text(row), under=tuple(details))
    return Figure(column.text(row), sort=fmean(values))


def _accuracy(column: TaskColumn, row: str, best: bool) -> Figure:
    cell = column.cells.get(row, Cell(()))
    lost = [f"{count} {status}" for status, count in cell.lost.items()]
    if (summary := cell.summary) is None:
        only = next((status for status, count in cell.lost.items() if count == len(cell.records) == 1), None)
        return Figure(only or ", ".join(lost) or DASH, lost=bool(lost))
    spread = f"± {percent(summary.deviation)} " if summary.deviation is not None else ""
    rung = column.rung_of(row)
    under = [f"≈ {rung}"] if rung else []
    if cell.learned < summary.count:
        under.append(f"{cell.learned} of {summary.count} learned" if cell.learned else "at chance")
    return Figure(
        percent(summary.mean),
        f"{spread}({summary.count}){DAGGER if cell.mostly_rising else ''}",
        (*under, *lost),
        summary.mean,
        best=best,
    )


def _trivial(group: Group, width: int) -> list[Figure]:
    """The best trivial rung of each task, and their averages; nothing where no column has a ladder."""
    rungs = {c.task: best_trivial(c.ladder) for c in group.columns}
    if not any(rungs.values()):
        return []
    figures = [Figure(percent(r[1]), under=(r[0],)) if (r := rungs[c.task]) else Figure() for c in group.columns]
    for averaged in group.averages.values():
        known = [r[1] for c in averaged if (r := rungs[c.task])]
        figures.append(Figure(percent(fmean(known))) if len(known) == len(averaged) else Figure())
    return figures + [Figure("")] * (width - len(figures))
