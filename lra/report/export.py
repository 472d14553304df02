"""The files of a report but its figures and page: report.md, report.json, LaTeX tables, and the numbers as CSV."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from lra.report import columns
from lra.report.cells import TaskColumn
from lra.report.escape import inert, without_formulas
from lra.report.groups import Group, average
from lra.report.latex import latex
from lra.report.render import markdown
from lra.report.rows import only
from lra.report.tables import comparison, given, published, reproduction, seeds
from lra.results.files import encoded
from lra.results.find import REPORT
from lra.results.reading import content_of
from lra.stats.accuracy import binomial_half_width

JSON_SCHEMA = 1
ENDINGS = (".csv", ".html", ".md", ".pdf", ".png", ".svg", ".tex")  # of the report's other files
DIGITS = 12  # significant ones: more than an accuracy has, and few enough that two machines agree on them
SCALES = (
    "Accuracies are fractions of 1, except in `reproduction`, where they are percent as printed; times are seconds, "
    "sizes bytes; *_95 are ends or half widths of 95 % intervals."
)


def frames(groups: Sequence[Group], runs: pd.DataFrame, baseline: str = "") -> dict[str, pd.DataFrame]:
    """Name -> frame; together all numbers: a row per run, per cell and rung, per difference, per published accuracy."""
    return {
        "runs": runs,
        "cells": cells(groups),
        "differences": seeds.numbers(groups, baseline),
        "reproduction": pd.DataFrame(reproduction.beside(groups, published.read()), columns=list(reproduction.COLUMNS)),
    }


def cells(groups: Sequence[Group]) -> pd.DataFrame:
    """One row per cell and per rung, fractions of 1: the numbers behind all tables."""
    rows: list[dict[str, Any]] = []
    for group in groups:
        for column in group.columns:
            keys = {"table": group.slug, "protocol": group.protocol, "precision": group.precision, "task": column.task}
            keys |= {"data": column.label, "data_hash": column.data_hash}
            rows += [keys | {"kind": "rung", "row": name, "mean": a} for name, a in column.ladder.items()]
            rows += [
                keys | {"kind": "cell", "row": r} | _numbers(group, column, r) for r in group.rows if r in column.cells
            ]
    return pd.DataFrame(rows)


def _numbers(group: Group, column: TaskColumn, row: str) -> dict[str, Any]:
    cell, summary = column.cells[row], column.cells[row].summary
    numbers: dict[str, Any] = {"n": len(cell.done), "diverged": cell.count("diverged"), "failed": cell.count("failed")}
    numbers |= columns.numbers(columns.row_of(group, row, [column]))
    if summary is None:
        return numbers
    low, high = summary.interval or (None, None)
    numbers |= {"mean": summary.mean, "deviation": summary.deviation, "low_95": low, "high_95": high}
    numbers |= {"min": min(cell.accuracies.values()), "max": max(cell.accuracies.values())}
    noise = binomial_half_width(summary.mean, cell.test_rows) if cell.test_rows else None
    numbers |= {"test_rows": cell.test_rows, "test_half_width_95": noise, "rung": column.rung_of(row)}
    return numbers | {"rising": cell.rising, "not_separated_from_best": row in column.not_separated}


def means(group: Group) -> pd.DataFrame:
    """A table's means as fractions of 1: a row per mechanism, a column per task, and the averages."""
    rows = []
    for row in group.rows:
        summaries = {c.task: c.cells[row].summary for c in group.columns if row in c.cells}
        rows.append({"row": row} | {task: summary.mean if summary else None for task, summary in summaries.items()})
        rows[-1] |= {heading: average(averaged, row) for heading, averaged in group.averages.items()}
    return pd.DataFrame(rows, columns=["row", *(c.task for c in group.columns), *group.averages])


def csv_files(groups: Sequence[Group], found: dict[str, pd.DataFrame]) -> dict[str, bytes]:
    """File name -> content: a CSV per frame and per table."""
    files = {f"{name}.csv": csv(table) for name, table in found.items()}
    return files | {f"table-{group.slug}.csv": csv(means(group)) for group in groups}


def json_file(found: dict[str, pd.DataFrame], names: Sequence[str]) -> bytes:
    """report.json: every frame as a Table Schema resource (fields, then rows). names: of the report's other files."""
    parts = [f'"schema_version": {JSON_SCHEMA}', f'"scales": {json.dumps(SCALES)}']
    parts += [f"{json.dumps(name)}: {_resource(table)}" for name, table in found.items()]
    parts.append(f'"files": {json.dumps(sorted(names))}')
    return encoded("{\n" + ",\n".join(parts) + "\n}\n")


def files_of(folder: Path) -> list[Path]:
    """The files that the report.json in a folder lists; empty without a readable list, and never outside the folder."""
    try:
        names = json.loads(content_of(folder / REPORT))["files"]
        paths = [Path(name) for name in names]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    inside = [path for path in paths if path.parts[:-1] in ((), ("figures",)) and path.suffix in ENDINGS]
    return [folder / path for path in inside]


def latex_files(groups: Sequence[Group], baseline: str = "", rows: Sequence[str] = ()) -> dict[str, bytes]:
    """Tables of each group: comparison, what each row was given, seeds per task. rows: those to show; empty for all."""
    files = {}
    for group in groups:
        tables = {"table": comparison.compact(group), "given": given.given(group)}
        baseline_row = seeds.baseline_of(group, baseline)
        for column in group.columns:
            table = seeds.seeds(column, group.rows, baseline_row)
            note = f"{seeds.CAPTION}. {table.note}" if table.note else seeds.CAPTION
            tables[f"seeds-{column.task}"] = replace(table, note=note)
        for kind, whole in tables.items():
            table = only(whole, rows, group.rows)
            if group.heading not in table.title:
                table = replace(table, title=f"{group.heading}. {table.title}")
            if any(line[0] in group.rows for line in table.body):
                files[f"{kind}-{group.slug}.tex"] = encoded(latex(table, f"{kind}-{group.slug}"))
    return files


def text(groups: Sequence[Group], names: Sequence[str], notes: Sequence[str], baseline: str = "") -> str:
    """report.md. names: the report's other files, of which it shows the figures; notes: on records left out."""
    parts = [f"# Results\n\n{comparison.LEGEND}\n"]
    for group in groups:
        parts += _group(group, seeds.baseline_of(group, baseline))
        images = [f"figures/{group.slug}-{column.task}-curves.png" for column in group.columns]
        parts += [f"![Learning curves]({name})\n" for name in images if name in names]
    parts.append(f"## Rows\n\n{comparison.mechanisms(groups)}")
    if notes:
        parts.append("## Left out\n\n" + "".join(f"- {inert(note)}\n" for note in notes))
    if matrices := reproduction.matrices(reproduction.beside(groups, published.read())):
        parts.append(f"## Reproduction\n\n{reproduction.LEGEND}\n")
        parts += [f"### {t.title}\n\n{markdown(t)}" + (f"\n{t.note}\n" if t.note else "") for t in matrices]
    parts.append(
        "## Published results\n\nEach block has its own data, models and schedules: compare rows within a block, not "
        "across blocks.\n"
    )
    return "\n".join([*parts, *published.blocks(published.read())])


def _group(group: Group, baseline: str) -> list[str]:
    main, about = comparison.comparison(group), given.given(group)
    parts = [f"## {inert(main.title)}\n\n{inert(main.note)}.\n\n{markdown(main)}"]
    parts.append(f"### {inert(about.title)}\n\n{inert(about.note)}\n\n{markdown(about)}")
    tables = [seed_table for c in group.columns if (seed_table := seeds.seeds(c, group.rows, baseline)).body]
    if tables:
        parts.append(f"### Seeds and differences\n\n{seeds.LEGEND}\n")
    parts += [f"#### {inert(t.title)}\n\n{markdown(t)}" + (f"\n{inert(t.note)}\n" if t.note else "") for t in tables]
    return parts + [f"### {inert(table.title)}\n\n{markdown(table)}" for table in comparison.breakdowns(group)]


def csv(table: pd.DataFrame) -> bytes:
    """CSV with DIGITS significant digits: what two machines reproduce."""
    whole = without_formulas(table.convert_dtypes())
    return encoded(whole.to_csv(index=False, lineterminator="\n", float_format=f"%.{DIGITS}g"))


def _resource(table: pd.DataFrame) -> str:
    """A table with its fields' names and types, a line per row."""
    text = table.convert_dtypes().to_json(orient="table", index=False, double_precision=DIGITS, force_ascii=False)
    whole = json.loads(text or "{}")
    for name in table.select_dtypes("floating"):
        for row, value in zip(whole["data"], table[name], strict=True):
            if isinstance(row[name], float):
                row[name] = float(f"{value:.{DIGITS}g}")
    rows = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in whole["data"]]
    return f'{{"schema": {json.dumps(whole["schema"])}, "data": [\n' + ",\n".join(rows) + "\n]}"
