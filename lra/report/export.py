"""The files of a report but its figures: report.md, report.json, tables for LaTeX, the numbers as CSV."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from lra.report import numbers
from lra.report.figures import scaling
from lra.report.groups import Group
from lra.report.render import latex, markdown
from lra.report.tables import comparison as tables
from lra.report.tables import given as facts
from lra.report.tables import published, reproduction
from lra.report.tables import seeds as evidence

JSON_SCHEMA = 1
DIGITS = 12  # significant ones: more than an accuracy has, fewer than in which two machines differ
SCALES = (
    "Accuracies are fractions of 1 but in `reproduction`, where they are percent as printed; times are seconds, sizes "
    "bytes; *_95 are ends or half widths of 95 % intervals."
)


def frames(groups: Sequence[Group], runs: pd.DataFrame, baseline: str = "") -> dict[str, pd.DataFrame]:
    """Name -> all numbers: a row per run, per cell and rung, per difference, per published accuracy."""
    return {
        "runs": runs,
        "cells": numbers.long_form(groups),
        "differences": evidence.numbers(groups, baseline),
        "reproduction": pd.DataFrame(reproduction.beside(groups, published.read()), columns=list(reproduction.COLUMNS)),
    }


def data_files(found: dict[str, pd.DataFrame]) -> dict[str, bytes]:
    """A CSV per frame, and report.json with all of them, each as a Table Schema resource (fields, then rows)."""
    parts = [f'"schema_version": {JSON_SCHEMA}', f'"scales": {json.dumps(SCALES)}']
    parts += [f"{json.dumps(name)}: {_resource(table)}" for name, table in found.items()]
    text = "{\n" + ",\n".join(parts) + "\n}\n"
    return {f"{name}.csv": csv(table) for name, table in found.items()} | {"report.json": text.encode()}


def latex_files(
    groups: Sequence[Group], baseline: str = "", scalings: Sequence[scaling.Scaling] = ()
) -> dict[str, bytes]:
    """Per group the comparison and what each row was given, per task the seeds and differences."""
    files = {}
    for group in groups:
        main = tables.comparison(group)
        main = replace(main, note=f"{main.note}. {tables.CAPTION}")
        sheets = {"table": main, "given": facts.table(group, scaling.milliseconds(scalings, group))}
        theirs = evidence.baseline_of(group, baseline)
        sheets |= {f"seeds-{c.task}": evidence.table(c, group.rows, theirs) for c in group.columns}
        for kind, table in sheets.items():
            if table.body:
                files[f"{kind}-{group.slug}.tex"] = latex(table, f"{kind}-{group.slug}").encode()
    return files


def text(
    groups: Sequence[Group],
    names: Sequence[str],
    notes: Sequence[str],
    baseline: str = "",
    scalings: Sequence[scaling.Scaling] = (),
) -> str:
    """report.md. names: of the report's other files, for the figures among them; notes: on records left out."""
    parts = [f"# Results\n\n{tables.LEGEND}\n"]
    for group in groups:
        parts += _group(group, evidence.baseline_of(group, baseline), scaling.milliseconds(scalings, group))
        images = [name for name in names if name.startswith(f"figures/{group.slug}-") and name.endswith(".png")]
        parts += [f"![Learning curves]({name})\n" for name in images]
    parts.append(f"## Rows\n\n{tables.mechanisms(groups)}")
    if notes:
        parts.append("## Left out\n\n" + "".join(f"- {note}\n" for note in notes))
    if made := reproduction.matrices(reproduction.beside(groups, published.read())):
        parts.append(f"## Reproduction\n\n{reproduction.LEGEND}\n")
        parts += [f"### {table.title}\n\n{markdown(table)}" for table in made]
    parts.append(
        "## Published results\n\nOther data, models and schedules: compare within a block, not across blocks.\n"
    )
    return "\n".join([*parts, *published.blocks(published.read())])


def _group(group: Group, baseline: str, milliseconds: Mapping[str, float]) -> list[str]:
    main = tables.comparison(group)
    parts = [f"## {main.title}\n\n{main.note}.\n\n{markdown(main)}"]
    given = facts.table(group, milliseconds)
    parts.append(f"### {given.title}\n\n{given.note}\n\n{markdown(given)}")
    seeds = [found for c in group.columns if (found := evidence.table(c, group.rows, baseline)).body]
    if seeds:
        parts.append(f"### Seeds and differences\n\n{evidence.LEGEND}\n")
    parts += [f"#### {t.title}\n\n{markdown(t)}" + (f"\n{t.note}\n" if t.note else "") for t in seeds]
    return parts + [f"### {table.title}\n\n{markdown(table)}" for table in tables.breakdowns(group)]


def csv(table: pd.DataFrame) -> bytes:
    """Numbers in so many digits as two machines agree in."""
    return table.convert_dtypes().to_csv(index=False, lineterminator="\n", float_format=f"%.{DIGITS}g").encode()


def _resource(table: pd.DataFrame) -> str:
    """A table with its fields' names and types, a line per row."""
    text = table.convert_dtypes().to_json(orient="table", index=False, double_precision=DIGITS, force_ascii=False)
    whole = json.loads(text or "{}")
    rows = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in whole["data"]]
    return f'{{"schema": {json.dumps(whole["schema"])}, "data": [\n' + ",\n".join(rows) + "\n]}"
