"""The interval of each row over seeds and its difference to a baseline, as a table per task and as numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lra.report import conventions
from lra.report.cells import TaskColumn
from lra.report.format import DASH, p_value, percent, signed
from lra.report.groups import Group
from lra.report.render import Table, table
from lra.stats.accuracy import FEWEST, binomial_half_width
from lra.stats.differences import Difference

LEGEND = (
    "Test accuracy in percent over seeds, Student's 95 % interval of the mean from three seeds on, and half of the "
    "interval that remains because the test split is finite. Differences are taken over common seeds and tested by t "
    "with the spread of a run estimated from all rows of the task (Smyth 2004) and the noise of the test rows from the "
    "samples on which two models differ; p is adjusted over the rows (Dunnett), and a row is separated below 0.05. The "
    "interval of a difference is not adjusted, so that it can leave out 0 where the row is not separated. "
    "Detectable: the smallest true difference that such runs separate in about four of five repetitions, itself an "
    "estimate, and left out for rows at chance, whose runs do not tell how much those of others differ."
)

CAPTION = (
    "Test accuracy in percent over n seeds, with Student's interval of the mean; test rows: half of the interval that "
    "remains because the test split is finite. p is adjusted over the rows (Dunnett); the interval of a difference is "
    "not"
)
COLUMNS = ("table", "task", "data_hash", "baseline", "row", "seeds", "difference", "error", "freedom", "low_95",
           "high_95", "p", "p_adjusted", "test_half_width_95", "detectable", "verdict")  # fmt: skip


def baseline_of(group: Group, asked: str = "") -> str:
    """The row that differences are taken to: the one asked for, else the usual baseline, else the first."""
    return next((row for row in (asked, conventions.BASELINE) if row in group.rows), group.rows[0])


def seeds(column: TaskColumn, rows: Sequence[str], baseline: str) -> Table:
    """A line per row with a finished run on this task; no differences if the baseline has none."""
    differences = column.against(baseline)
    header = ["Attention", "Mean", "sd", "n", "95 %", "Test rows"]
    breaks = (len(header),) if differences else ()
    header += [f"minus {baseline}", "95 % of it", "p", "Verdict", "Detectable"] if differences else []
    body = []
    for row in rows:
        if row not in column.cells or (summary := column.cells[row].summary) is None:
            continue
        noise = binomial_half_width(summary.mean, column.cells[row].test_rows)
        line = [row, percent(summary.mean, 2), _percent(summary.deviation), str(summary.count)]
        line.append(_span(summary.interval and (max(summary.interval[0], 0.0), min(summary.interval[1], 1.0))))
        line.append(f"± {percent(noise)}" if math.isfinite(noise) else DASH)
        body.append(line + (_difference(differences.get(row)) if differences else []))
    title = f"{column.title}: seeds and differences"
    return table(title, header, body, note=detectable(differences), breaks=breaks).trimmed()


def verdict(d: Difference) -> str:
    """The verdict on a difference: too few seeds, separated or not separated."""
    if d.count < FEWEST:
        return "too few seeds"
    return "separated" if d.separated else "not separated"


def detectable(found: Mapping[str, Difference]) -> str:
    """One line on the smallest difference that these runs would have separated; empty without differences."""
    if not found:
        return ""
    span = detectable_span(found)
    rows = f" The finite test split alone blurs a difference of two mechanisms by up to ± {split_noise(found)} points."
    rows = rows if any(d.test_half_width for d in found.values()) else ""  # 0: all answers are the same
    if not span and any(d.p is not None for d in found.values()):
        return f"No detectable difference is given: the baseline is at chance, or all other rows are.{rows}"
    if not span:
        return f"With fewer than {FEWEST} common seeds no difference of mechanisms can be detected.{rows}"
    return (
        f"Depending on the row, the smallest true difference that such runs separate in about four of five repetitions "
        f"is {span} points.{rows}"
    )


def detectable_span(found: Mapping[str, Difference]) -> str:
    """'1.24–3.10': the smallest detectable differences in points, from row to row; empty where there is none."""
    known = sorted(d.detectable for d in found.values() if d.detectable is not None and math.isfinite(d.detectable))
    return DASH.join(dict.fromkeys(percent(known[i], 2) for i in (0, -1))) if known else ""


def split_noise(found: Mapping[str, Difference]) -> str:
    """The largest noise of a difference, in points, that comes from the test split alone."""
    return percent(max(d.test_half_width for d in found.values()))


def numbers(groups: Sequence[Group], baseline: str = "") -> pd.DataFrame:
    """The differences to the baseline in fractions of 1: a line per table, task and row."""
    lines: list[dict[str, Any]] = []
    for group in groups:
        baseline_row = baseline_of(group, baseline)
        for column in group.columns:
            keys = {"table": group.slug, "task": column.task, "data_hash": column.data_hash, "baseline": baseline_row}
            for row, d in column.against(baseline_row).items():
                low, high = d.interval or (None, None)
                lines.append(
                    keys
                    | {"row": row, "seeds": d.count, "difference": d.mean, "error": finite(d.error)}
                    | {"freedom": finite(d.freedom), "low_95": low, "high_95": high, "p": d.p}
                    | {"p_adjusted": d.adjusted, "test_half_width_95": finite(d.test_half_width)}
                    | {"detectable": finite(d.detectable), "verdict": verdict(d)}
                )
    return pd.DataFrame(lines, columns=list(COLUMNS))


def finite(value: float | None) -> float | None:
    """The value, or None where it is infinite or no number."""
    return value if value is not None and math.isfinite(value) else None


def _difference(d: Difference | None) -> list[str]:
    if d is None:
        return [DASH] * 5
    least = DASH if d.detectable is None or not math.isfinite(d.detectable) else percent(d.detectable, 2)
    return [signed(d.mean), _span(d.interval, signed), p_value(d.adjusted), verdict(d), least]


def _percent(accuracy: float | None) -> str:
    return DASH if accuracy is None else percent(accuracy, 2)


def _span(interval: tuple[float, float] | None, words=_percent) -> str:
    return DASH if interval is None else f"{words(interval[0])} to {words(interval[1])}"
