"""Differences of each row to a baseline, paired by seed: numbers for the page and a forest plot as SVG and PDF."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from lra.report.compare import against, paired
from lra.report.figures import style as figures
from lra.report.groups import Group, base
from lra.report.page.leaderboard import data_key
from lra.report.tables.comparison import title_of
from lra.report.tables.seeds import detectable, signed
from lra.stats import Difference

CAPTION = "Percentage points. Line: 95 % interval over pairs of one seed, from three on. Filled: separated."


def draw(group: Group, baseline: str, colours: dict[str, str]) -> dict[str, bytes]:
    """'slug-differences.svg' and '.pdf' -> content: a panel per task; nothing where no row has a pair."""
    panels = {task: found for task, found in paired(group, baseline).items() if found}
    rows = [row for row in group.rows if any(row in found for found in panels.values())]
    if not rows:
        return {}
    name = f"{group.slug}-differences"
    with figures.style(name):
        title = f"Difference to {baseline}, protocol {group.protocol.replace(',', ', ')}, {group.precision}"
        left = 0.3 + 0.075 * max(map(len, rows))
        size = (max(5.6, left + 2.0 * len(panels)), 1.4 + 0.26 * len(rows))
        figure = figures.sheet(title, CAPTION, size, (left, 0.2, 0.5))
        _panels(figure, panels, rows, colours)
        return figures.save(figure, name)


def _panels(figure: Figure, panels: dict[str, dict[str, Difference]], rows: list[str], colours: dict[str, str]) -> None:
    axes_of = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (task, found) in zip(axes_of, panels.items(), strict=True):
        axes.axvline(0, color=figures.LINE, linewidth=0.8, zorder=1)
        for row, d in found.items():
            y, line = rows.index(row), {"color": colours[base(row)], "gid": f"row {row}"}
            if d.interval:
                axes.plot([100 * end for end in d.interval], [y, y], linewidth=1.6, zorder=2, **line)
            face = line["color"] if d.separated else "#ffffff"
            axes.plot([100 * d.mean], [y], marker="o", markersize=5, markerfacecolor=face, zorder=3, **line)
        axes.set_xlabel(title_of(task))
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)


@dataclass(frozen=True)
class Bar:
    """A difference as the page draws it on a line of 144 units with zero in the middle."""

    at: float
    span: tuple[float, float] | None
    text: str
    detail: str
    direction: str  # up or down where separated, else empty


def forests(group: Group) -> list[dict[str, Any]]:
    """The page's tables of differences, one for each row that can be a baseline."""
    known = {c.task: {row: against(c, row) for row in c.cells} for c in group.columns}
    limits = {task: _limit([d for found in by_row.values() for d in found.values()]) for task, by_row in known.items()}
    made = []
    for baseline in group.rows:
        columns = [c for c in group.columns if known[c.task].get(baseline)]
        rows = [row for row in group.rows if any(row in known[c.task][baseline] for c in columns)]
        headings = [{"title": title_of(c.task), "data": data_key(c), "limit": limits[c.task]} for c in columns]
        bars = {row: [_bar(known[c.task][baseline].get(row), limits[c.task]) for c in columns] for row in rows}
        least = [f"{title_of(c.task)}: {line}" for c in columns if (line := detectable(known[c.task][baseline]))]
        made += [{"baseline": baseline, "headings": headings, "rows": bars, "least": least}] if rows else []
    return made


def _limit(found: Sequence[Difference]) -> float:
    """Of an axis in points: the same for every baseline, and wide enough for three in four of the intervals."""
    ends = sorted(100 * max(abs(end) for end in (d.mean, *(d.interval or ()))) for d in found) or [1.0]
    far = max(ends[(len(ends) - 1) * 3 // 4], *(100 * abs(d.mean) for d in found), 0.0)
    return next((nice for nice in (0.5, 1, 2, 5, 10, 20, 50) if nice >= far), 100)


def _bar(d: Difference | None, limit: float) -> Bar | None:
    if d is None:
        return None

    def x(difference: float) -> float:
        return round(72 + 72 * max(-1.1, min(1.1, 100 * difference / limit)), 1)

    direction = ("up" if d.mean > 0 else "down") if d.separated else ""
    if d.interval is None:
        return Bar(x(d.mean), None, signed(d.mean), "1 pair" if d.count == 1 else f"{d.count} pairs", direction)
    low, high = d.interval
    detail = f"{signed(low)} to {signed(high)}"
    if d.adjusted is not None:
        detail += ", p < 0.001" if d.adjusted < 0.001 else f", p = {d.adjusted:.3f}"
    return Bar(x(d.mean), (x(low), x(high)), signed(d.mean), detail, direction)
