"""The page's paired differences: a table of bars for each row that can be chosen as the baseline."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lra.report.figures.legend import words
from lra.report.format import p_value, signed
from lra.report.groups import Group
from lra.report.page.leaderboard import data_key
from lra.report.tables.seeds import detectable_span, split_noise
from lra.stats.differences import Difference


@dataclass(frozen=True)
class ForestLine:
    """A difference as the page draws it: on a line of 144 units with zero in the middle."""

    at: float
    span: tuple[float, float] | None
    text: str
    detail: str
    direction: str  # up or down where separated, else empty


def forests(group: Group) -> list[dict[str, Any]]:
    """The tables of differences, one for each row that can be the baseline."""
    differences = {c.task: {row: c.against(row) for row in c.cells} for c in group.columns}
    limits = {
        task: _limit([d for of_baseline in by_row.values() for d in of_baseline.values()])
        for task, by_row in differences.items()
    }
    tables = []
    for baseline in group.rows:
        columns = [c for c in group.columns if differences[c.task].get(baseline)]
        rows = [row for row in group.rows if any(row in differences[c.task][baseline] for c in columns)]
        headings = [{"title": c.title, "data": data_key(c), "limit": limits[c.task]} for c in columns]
        families = {row: words(group.families[row]) for row in rows}
        bars = {row: [_bar(differences[c.task][baseline].get(row), limits[c.task]) for c in columns] for row in rows}
        notes = _notes([(c.title, differences[c.task][baseline]) for c in columns])
        tables += (
            [{"baseline": baseline, "headings": headings, "rows": bars, "families": families, "notes": notes}]
            if rows
            else []
        )
    return tables


def _notes(tasks: Sequence[tuple[str, dict[str, Difference]]]) -> list[str]:
    """What these runs could have detected, and the noise of the test splits, each in one line over all tasks."""
    spans = [f"{title} {span}" for title, differences in tasks if (span := detectable_span(differences))]
    noise = [f"{title} ± {split_noise(differences)}" for title, differences in tasks]
    least = "Smallest true difference that these runs would have separated in four of five repetitions, by row: "
    lines = [f"{least}{', '.join(spans)} points."] if spans else []
    return [*lines, f"Noise of a difference that comes from the test split alone: up to {', '.join(noise)} points."]


def _limit(differences: Sequence[Difference]) -> float:
    """The end of an axis in points: the same for every baseline; it shows all means and three in four intervals."""
    ends = sorted(100 * max(abs(end) for end in (d.mean, *(d.interval or ()))) for d in differences) or [1.0]
    far = max(ends[(len(ends) - 1) * 3 // 4], *(100 * abs(d.mean) for d in differences), 0.0)
    return next((nice for nice in (0.5, 1, 2, 5, 10, 20, 50) if nice >= far), 100)


def _bar(d: Difference | None, limit: float) -> ForestLine | None:
    if d is None:
        return None

    def x(difference: float) -> float:
        return round(72 + 72 * max(-1.1, min(1.1, 100 * difference / limit)), 1)

    direction = ("up" if d.mean > 0 else "down") if d.separated else ""
    if d.interval is None:
        return ForestLine(x(d.mean), None, signed(d.mean), "1 pair" if d.count == 1 else f"{d.count} pairs", direction)
    low, high = d.interval
    detail = f"{signed(low)} to {signed(high)}"
    if d.adjusted is not None:
        p = p_value(d.adjusted)
        detail += f", p {p}" if p.startswith("<") else f", p = {p}"
    return ForestLine(x(d.mean), (x(low), x(high)), signed(d.mean), detail, direction)
