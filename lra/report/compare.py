"""Rows of a table against each other: their differences over common seeds, and the rows that may be the best."""

from lra.report.cells import TaskColumn
from lra.report.groups import Group
from lra.stats.differences import Difference


def paired(group: Group, baseline: str) -> dict[str, dict[str, Difference]]:
    """Task -> row -> its difference to the baseline row over common seeds, adjusted over the rows of the task.

    Rows without a common finished seed are absent, and so are tasks without the baseline.
    """
    return {column.task: against(column, baseline) for column in group.columns if baseline in column.family.values}


def against(column: TaskColumn, baseline: str) -> dict[str, Difference]:
    """Row -> its difference to the baseline row of this column, adjusted over the rows; empty if that has no run."""
    return column.family.against(baseline) if baseline in column.family.values else {}


def not_separated(column: TaskColumn) -> set[str]:
    """The rows of this column that may be the best: see `Family.best`; empty where no row is separated from it."""
    return column.family.best
