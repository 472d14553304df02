"""The numbers behind the tables as data frames: fractions of 1, one row per cell or per mechanism."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from lra.report.compare import accuracies, not_separated
from lra.report.groups import Column, Group, average, fidelity
from lra.report.tables.given import tuning
from lra.stats import binomial_half_width


def long_form(groups: Sequence[Group]) -> pd.DataFrame:
    """One row per cell and per rung, fractions of 1: the raw numbers behind all tables."""
    rows: list[dict[str, Any]] = []
    for group in groups:
        for column in group.columns:
            place = {"table": group.slug, "protocol": group.protocol, "precision": group.precision, "task": column.task}
            place |= {"data": column.label, "data_hash": column.data_hash}
            rows += [place | {"kind": "rung", "row": name, "mean": a} for name, a in column.ladder.items()]
            rows += [place | {"kind": "cell", "row": r} | _numbers(column, r) for r in group.rows if r in column.cells]
    return pd.DataFrame(rows)


def wide_form(group: Group) -> pd.DataFrame:
    """A table's means as fractions of 1: rows of mechanisms, columns of tasks, and the average where there is one."""
    rows = []
    for row in group.rows:
        summaries = {c.task: c.cells[row].summary for c in group.columns if row in c.cells}
        rows.append({"row": row} | {task: found.mean if found else None for task, found in summaries.items()})
        rows[-1] |= {heading: average(columns, row) for heading, columns in group.averages.items()}
    columns = ["row", *(c.task for c in group.columns), *group.averages]
    return pd.DataFrame(rows, columns=columns)


def _numbers(column: Column, row: str) -> dict[str, Any]:
    cell, summary = column.cells[row], column.cells[row].summary
    about, sizes = cell.records[0].attention, cell.records[0].parameters
    numbers: dict[str, Any] = {"n": len(cell.done), "diverged": cell.count("diverged"), "failed": cell.count("failed")}
    numbers |= {"parameters": sizes.get("total"), "parameters_without_embeddings": sizes.get("without_embeddings")}
    numbers |= {"parameters_attention": sizes.get("attention"), "taps": (about.get("options") or {}).get("conv")}
    numbers |= {"lr": cell.records[0].config.get("train", {}).get("lr"), "tuning": tuning(cell.records[0])}
    numbers |= {"fidelity": fidelity(cell.records[0])}
    if summary is None:
        return numbers
    low, high = summary.interval or (None, None)
    numbers |= {"mean": summary.mean, "deviation": summary.deviation, "low_95": low, "high_95": high}
    numbers |= {"min": min(accuracies(cell).values()), "max": max(accuracies(cell).values())}
    numbers |= {"test_rows": cell.test_rows, "test_half_width_95": _noise(summary.mean, cell.test_rows)}
    numbers |= {"rung": column.rung_of(row), "learned": cell.learned, "late": cell.late}
    numbers["not_separated_from_best"] = row in not_separated(column)
    for name in ("tokens_per_second", "peak_bytes"):
        values = [value for r in cell.done if (value := getattr(r, name)) is not None]
        numbers[name] = fmean(values) if values else None
    return numbers


def _noise(mean: float, rows: int) -> float | None:
    return binomial_half_width(mean, rows) if rows else None
