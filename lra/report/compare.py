"""Rows of a table against each other: differences paired by seed, and the rows that are not separated from the best."""

from lra.report.groups import Cell, Group, TaskColumn
from lra.stats import FEWEST, Difference, adjust, difference


def paired(group: Group, baseline: str) -> dict[str, dict[str, Difference]]:
    """Task -> row -> its difference to the baseline row over common seeds, Holm-adjusted over the rows of the task.

    Rows without a common finished seed are absent, and so are tasks without the baseline.
    """
    return {column.task: against(column, baseline) for column in group.columns if baseline in column.cells}


def against(column: TaskColumn, baseline: str) -> dict[str, Difference]:
    """Row -> its difference to the baseline row of this column, Holm-adjusted over the rows."""
    theirs = accuracies(column.cells[baseline])
    found = {}
    for row, cell in column.cells.items():
        ours = accuracies(cell)
        seeds = sorted(ours.keys() & theirs.keys())
        if row != baseline and seeds:
            rows = min(cell.test_rows, column.cells[baseline].test_rows)
            found[row] = difference([ours[s] for s in seeds], [theirs[s] for s in seeds], rows)
    return adjust(found)


def best_row(column: TaskColumn) -> str | None:
    """The row of the highest mean; None when nothing has finished."""
    means = {row: cell.summary.mean for row, cell in column.cells.items() if cell.summary}
    return max(means, key=lambda row: means[row]) if means else None


def not_separated(column: TaskColumn) -> set[str]:
    """The best row and every row not separated from it; the truly best one is among them with 95 % (Hsu 1984).

    Empty when no row has three seeds in common with the best, because then no row could be separated.
    """
    best = best_row(column)
    found = against(column, best) if best is not None else {}
    if best is None or all(d.count < FEWEST for d in found.values()):
        return set()
    finished = {row for row, cell in column.cells.items() if cell.summary}
    return {row for row in finished if row == best or row not in found or not found[row].separated}


def accuracies(cell: Cell) -> dict[int, float]:
    """Seed -> test accuracy of the finished runs."""
    return {r.seed: r.test_accuracy for r in cell.done if r.test_accuracy is not None}
