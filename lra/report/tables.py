"""Comparison tables as Markdown and CSV: a pure function of records."""

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

import pandas as pd
from tabulate import tabulate

from lra.record import RESULTS_VERSION, Record
from lra.report.cells import Cell, Column, Group, average, best_trivial, rank
from lra.stats import half_width

DASH = "\N{EN DASH}"
LEGEND = (
    "Test accuracy in percent, of the checkpoint that was best on validation: mean ± sample standard deviation over "
    "seeds (number of seeds). ≈: within 95 % noise of that rung of the task's ladder, where noise is the binomial one "
    "of the test rows and, for several seeds, 1.96 standard errors of their mean, in quadrature. Best trivial: the "
    f"strongest rung that reads no nesting. {DASH}: no run. A row with a missing cell has no average. Tokens/s: real "
    "tokens in training; ranges cover runs and tasks."
)


def percent(accuracy: float) -> str:
    """0.369 -> '36.9'."""
    return f"{100 * accuracy:.1f}"


def title_of(task: str) -> str:
    """The task's name in headings."""
    return {"listops": "ListOps", "pathx": "Path-X"}.get(task, task.capitalize())


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A Markdown table, so many columns to the left and the others to the right."""
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in (header, *rows)]
    align = ["left"] * left + ["right"] * (len(header) - left)
    return tabulate(escaped[1:], escaped[0], tablefmt="pipe", colalign=align, disable_numparse=True) + "\n"


def heading(group: Group) -> str:
    """'standard, bfloat16' and what else sets the table apart."""
    older = f", results version {group.results_version}" if group.results_version != RESULTS_VERSION else ""
    apart = f", apart for: {group.apart}" if group.apart else ""
    return f"Protocol {group.protocol}, {group.precision}{older}{apart}"


def data_line(group: Group) -> str:
    """Label and hash of each task's data."""
    return "Data: " + "; ".join(f"{title_of(c.task)} {c.label} ({c.data_hash[:12]})" for c in group.columns)


def column_title(column: Column) -> str:
    """The task, and which data where that is neither generated nor official: 'Retrieval (matched pairs)'."""
    plain = column.label in ("", "generated", "official", "own")
    return title_of(column.task) + ("" if plain else f" ({column.label})")


def comparison(group: Group) -> str:
    """The Markdown table of a group: best trivial rung on top, a row per mechanism, a column per task."""
    trivial = {c.task: best_trivial(c.ladder) for c in group.columns}
    body = []
    if any(trivial.values()):
        top = ["best trivial", *(f"{percent(t[1])} {t[0]}" if t else DASH for t in trivial.values())]
        for columns in group.averages.values():
            rungs = [rung for column in columns if (rung := trivial[column.task])]
            top.append(percent(fmean(r[1] for r in rungs)) if len(rungs) == len(columns) else DASH)
        body.append([*top, "", ""])
    for row in group.rows:
        cells = [c.cells[row] for c in group.columns if row in c.cells]
        line = [row, *(cell_text(c, row) for c in group.columns)]
        means = [average(columns, row) for columns in group.averages.values()]
        line += [percent(mean) if mean is not None else DASH for mean in means]
        sizes = [r.parameters.get("total") for cell in cells for r in cell.records]
        speeds = [r.tokens_per_second for cell in cells for r in cell.done]
        body.append([*line, _range(sizes, "{:,.0f}"), _range(speeds, "{:,.0f}", digits=3)])
    header = ["Attention", *(column_title(c) for c in group.columns), *group.averages]
    return markdown([*header, "Parameters", "Tokens/s"], body)


def cell_text(column: Column, row: str) -> str:
    """'36.9 ± 0.3 (2) ≈ root operator; 1 diverged', a dash when nothing ran."""
    cell = column.cells.get(row, Cell(()))
    lost = {status: cell.count(status) for status in ("diverged", "failed")}
    if (summary := cell.summary) is None:
        words = [status if count == 1 else f"{status} ({count})" for status, count in lost.items() if count]
        return "; ".join(words) or DASH
    text = percent(summary.mean)
    if summary.deviation is not None:
        text += f" ± {percent(summary.deviation)}"
    text += f" ({summary.count})"
    if rung := column.rung_of(row):
        text += f" ≈ {rung}"
    if cell.learned < summary.count:
        text += f"; {cell.learned} of {summary.count} learned" if cell.learned else "; at chance"
    return "; ".join([text, *(f"{count} {status}" for status, count in lost.items() if count)])


def mechanisms(groups: Sequence[Group]) -> str:
    """A line per row: what it is, how true to its paper, and whether it is a user's file."""
    found: dict[str, str] = {}
    for column in (column for group in groups for column in group.columns):
        for row, cell in column.cells.items():
            about = cell.records[0].attention
            source = "" if about.get("builtin", True) else f"a user's file, {about.get('source_hash', '')}"
            words = [str(about.get(key, "")) for key in ("title", "fidelity", "cost", "paper")]
            words += ["always padded to the full length"] if about.get("padding") == "fixed" else []
            found.setdefault(row, f"- `{row}`: {'; '.join(filter(None, [*words, source]))}\n")
    return "".join(found[row] for row in sorted(found, key=rank))


def breakdowns(group: Group) -> dict[str, str]:
    """Markdown tables of the accuracy per kind of sample, by title: 'ListOps, by root operator'."""
    tables = {}
    for column in group.columns:
        rows = [row for row in group.rows if row in column.cells]
        kinds = {kind: None for row in rows for r in column.cells[row].done for kind in r.accuracy_by}
        for kind in kinds:
            means = {row: _means(column.cells[row].done, kind) for row in rows}
            values = list(dict.fromkeys(value for found in means.values() for value in found))
            body = [
                [row, *(percent(found[v]) if v in found else DASH for v in values)]
                for row, found in means.items()
                if found
            ]
            tables[f"{title_of(column.task)}, by {kind}"] = markdown(["Attention", *values], body)
    return tables


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
    numbers: dict[str, Any] = {"n": len(cell.done), "diverged": cell.count("diverged"), "failed": cell.count("failed")}
    sizes = [r.parameters["total"] for r in cell.records if "total" in r.parameters]
    numbers["parameters"] = sizes[0] if sizes else None
    if summary:
        accuracies = [r.test_accuracy for r in cell.done if r.test_accuracy is not None]
        numbers |= {
            "mean": summary.mean,
            "deviation": summary.deviation,
            "min": min(accuracies),
            "max": max(accuracies),
        }
        numbers |= {"half_width_95": half_width(summary, cell.test_rows), "test_rows": cell.test_rows}
        numbers |= {"rung": column.rung_of(row), "learned": cell.learned}
        for name in ("tokens_per_second", "peak_bytes"):
            values = [value for r in cell.done if (value := getattr(r, name)) is not None]
            numbers[name] = fmean(values) if values else None
    return numbers


def _means(records: Sequence[Record], kind: str) -> dict[str, float]:
    """Value -> mean accuracy over the records that have it."""
    found: dict[str, list[float]] = {}
    for r in records:
        for value, accuracy in r.accuracy_by.get(kind, {}).items():
            found.setdefault(value, []).append(accuracy)
    return {value: fmean(found[value]) for value in sorted(found)}


def _range(values: Iterable[float | None], form: str, digits: int = 12) -> str:
    """'12,300' or '12,300–15,100', to so many significant digits."""
    known = [float(f"{value:.{digits}g}") for value in values if value is not None]
    ends = sorted({min(known), max(known)}) if known else []
    return DASH.join(form.format(end) for end in ends) or DASH
