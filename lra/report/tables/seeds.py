"""What the seeds say: the interval of each row and its difference to a baseline, as a table per task and as numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lra.report import legacy
from lra.report.compare import against
from lra.report.format import DASH, p_value, percent, signed
from lra.report.groups import Group, TaskColumn
from lra.report.render import Table, table
from lra.stats import FEWEST, Difference, binomial_half_width

LEGEND = (
    "Test accuracy in percent over seeds. 95 %: Student's t-interval, from three seeds on. Test rows: half of the 95 % "
    "interval that remains because the test split is finite, however many seeds there are. Differences are paired by "
    "seed. p comes from the paired t-test; from ten pairs on from all sign flips, with a BCa interval, unless the "
    "table has too many rows for sign flips to reach 5 %. It is adjusted over the rows (Holm). Separated: p is below "
    "0.05 and the difference is larger than the noise of the test rows. Detectable: the smallest true difference that "
    "as many pairs with this spread would have separated in four of five repetitions, by a t-test at 5 % divided by "
    "the number of rows (Holm's first step)."
)

COLUMNS = ("table", "task", "data_hash", "baseline", "row", "pairs", "difference", "deviation", "low_95", "high_95",
           "method", "p", "p_holm", "test_half_width_95", "detectable", "verdict")  # fmt: skip


def baseline_of(group: Group, asked: str = "") -> str:
    """The row that differences are taken to: the one asked for, else the usual baseline, else the first."""
    return next((row for row in (asked, legacy.BASELINE) if row in group.rows), group.rows[0])


def seeds(column: TaskColumn, rows: Sequence[str], baseline: str) -> Table:
    """A line per row that has finished on this task; no differences where the baseline has not."""
    found = against(column, baseline) if baseline in column.cells else {}
    header = ["Attention", "Mean", "sd", "n", "95 %", "Test rows"]
    breaks = (len(header),) if found else ()
    header += [f"less {baseline}", "95 % of it", "p", "Verdict", "Detectable"] if found else []
    body = []
    for row in rows:
        if row not in column.cells or (summary := column.cells[row].summary) is None:
            continue
        noise = binomial_half_width(summary.mean, column.cells[row].test_rows)
        line = [row, percent(summary.mean, 2), _percent(summary.deviation), str(summary.count), _span(summary.interval)]
        line.append(f"± {percent(noise)}" if math.isfinite(noise) else DASH)
        body.append(line + (_difference(found.get(row)) if found else []))
    title = f"{column.title}: seeds and differences"
    return table(title, header, body, note=detectable(found), breaks=breaks).trimmed()


def verdict(d: Difference) -> str:
    """What a difference comes to, in words."""
    if d.count < FEWEST:
        return "too few seeds"
    return "separated" if d.separated else "not separated"


def detectable(found: Mapping[str, Difference]) -> str:
    """One line on the smallest difference that these runs would have separated; empty without differences."""
    if not found:
        return ""
    known = sorted(d.detectable for d in found.values() if d.detectable is not None and math.isfinite(d.detectable))
    noise = max(d.test_half_width for d in found.values())
    rows = f"The finite test split alone blurs a difference of two mechanisms by up to ± {percent(noise)} points."
    if not known:
        return f"With fewer than {FEWEST} common seeds no difference of mechanisms can be detected. {rows}"
    ends = dict.fromkeys(percent(known[i], 2) for i in (0, -1))
    return (
        f"Depending on the row, the smallest true difference that these runs would have separated in four of five "
        f"repetitions is {DASH.join(ends)} points. {rows}"
    )


def numbers(groups: Sequence[Group], baseline: str = "") -> pd.DataFrame:
    """One row per table, task and row of its difference to the baseline; fractions of 1."""
    found: list[dict[str, Any]] = []
    for group in groups:
        theirs = baseline_of(group, baseline)
        for column in group.columns:
            place = {"table": group.slug, "task": column.task, "data_hash": column.data_hash, "baseline": theirs}
            for row, d in against(column, theirs).items() if theirs in column.cells else ():
                low, high = d.interval or (None, None)
                found.append(
                    place
                    | {"row": row, "pairs": d.count, "difference": d.mean, "deviation": d.deviation}
                    | {"low_95": low, "high_95": high, "method": d.method, "p": d.p, "p_holm": d.adjusted}
                    | {"test_half_width_95": d.test_half_width, "detectable": d.detectable, "verdict": verdict(d)}
                )
    return pd.DataFrame(found, columns=list(COLUMNS))


def _difference(d: Difference | None) -> list[str]:
    if d is None:
        return [DASH] * 5
    least = DASH if d.detectable is None or not math.isfinite(d.detectable) else percent(d.detectable, 2)
    return [signed(d.mean), _span(d.interval, signed), p_value(d.adjusted), verdict(d), least]


def _percent(accuracy: float | None) -> str:
    return DASH if accuracy is None else percent(accuracy, 2)


def _span(interval: tuple[float, float] | None, words=_percent) -> str:
    return DASH if interval is None else f"{words(interval[0])} to {words(interval[1])}"
