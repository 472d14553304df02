"""Learning curves: validation accuracy against the step, with the task's ladder; the same bytes each time."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lra.report.cells import TaskColumn, validation_rows
from lra.report.figures import style
from lra.report.figures.legend import Legend
from lra.report.figures.style import Palette
from lra.report.format import percent
from lra.report.groups import Group
from lra.results.record import FINAL, Record
from lra.stats.accuracy import binomial_half_width

WIDTH = 6.4  # inches
LABEL_GAP = 0.045  # fraction of the axis: the smallest distance between the labels of two rungs
MOST_POINTS = 200  # drawn of one curve: more would not be visible


def draw(group: Group, palette: Palette) -> dict[str, bytes]:
    """'slug-listops-curves.png', '.svg' and '.pdf' -> content, for each task of a table that has curves."""
    files = {}
    for column in group.columns:
        if any(_points(r) for cell in column.cells.values() for r in cell.records):
            files |= _figure(group, column, palette)
    return files


def _figure(group: Group, column: TaskColumn, palette: Palette) -> dict[str, bytes]:
    rows = [row for row in group.rows if row in column.cells]
    legend = Legend(rows, palette, WIDTH, max(map(len, rows)), most=5)
    name = f"{group.slug}-{column.task}-curves"
    with style.style(name):
        title = f"{column.title}, protocol {group.protocol.replace(',', ', ')}, {group.precision}"
        margins = (0.62, 1.75 if column.ladder else 0.2, 0.45 + legend.height)
        figure = style.blank(title, _caption(column), (WIDTH, 4.2 + legend.height), margins)
        axes = figure.add_subplot()
        dashes = palette.dashes(rows)
        heights = [_draw(axes, row, column.cells[row].records, palette.colour(row), dashes[row]) for row in rows]
        _ladder(axes, column.ladder, [y for row_heights in heights for y in row_heights])
        axes.set_xlabel("training step")
        axes.set_ylabel("validation accuracy, %")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        legend.draw(figure, axes)
        return style.save(figure, name, ("png", "svg", "pdf"))


def _draw(axes: Axes, row: str, records: Sequence[Record], colour: str, dash: object) -> list[float]:
    """Draw the mean over finished seeds with their range as a band, and each diverged run up to a cross.

    Returns the heights of all points.
    """
    runs = [dict(points) for r in records if r.status == "done" and (points := _points(r))]
    steps = _thin(sorted(set.intersection(*(set(run) for run in runs)))) if runs else []
    values = [[run[step] for run in runs] for step in steps]
    means = [sum(accuracies) / len(accuracies) for accuracies in values]
    if steps:
        marker = "." if len(steps) == 1 else None
        line = {"color": colour, "linestyle": dash, "linewidth": 1.6, "gid": f"row {row}"}
        axes.plot(steps, means, marker=marker, label=row, **line)
        if len(runs) > 1:
            low, high = [min(accuracies) for accuracies in values], [max(accuracies) for accuracies in values]
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0, gid=f"row {row}")
    lost = [_points(r) for r in records if r.status == "diverged" and _points(r)]
    for points in lost:
        x, y = zip(*points, strict=True)
        in_legend = not steps and points is lost[0]
        thin = {"color": colour, "linestyle": dash, "linewidth": 0.8, "gid": f"row {row}"}
        axes.plot(x, y, label=f"{row} (diverged)" if in_legend else None, **thin)
        axes.plot(x[-1], y[-1], color=colour, marker="x", markersize=8, markeredgewidth=1.8, zorder=5, gid=f"row {row}")
    return [y for accuracies in values for y in accuracies] + [y for points in lost for _, y in points]


def _ladder(axes: Axes, ladder: dict[str, float], ys: Sequence[float]) -> None:
    """Draw the rungs near the curves and the next one above them as thin lines, named at the right."""
    top = max(ys, default=0.0)
    above = sorted(100 * a for a in ladder.values() if 100 * a > top)
    ceiling = above[0] if above else top
    rungs = sorted((100 * a, name) for name, a in ladder.items() if 100 * a <= ceiling)
    low, high = min([*ys, *(y for y, _ in rungs)]), max(top, ceiling)
    margin = 0.06 * (high - low) or 1.0
    low, high = low - margin, high + margin
    axes.set_ylim(low, high)
    label_heights = _spread([(y - low) / (high - low) for y, _ in rungs])
    for (y, name), label_height in zip(rungs, label_heights, strict=True):
        axes.axhline(y, color=style.LINE, linewidth=0.6, zorder=0.5)
        axes.annotate(
            f"{name} {y:.1f}",
            xy=(1, y),
            xycoords=axes.get_yaxis_transform(),
            xytext=(1.03, label_height),
            textcoords="axes fraction",
            fontsize=7.5,
            color=style.MUTED,
            va="center",
            arrowprops={"arrowstyle": "-", "color": style.LINE, "linewidth": 0.5, "relpos": (0, 0.5), "shrinkB": 0},
        )


def _spread(heights: list[float]) -> list[float]:
    """Sorted heights in fractions of the axis, moved up just far enough that their labels do not touch."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + LABEL_GAP) if moved else height)
    return moved


def _thin(steps: list[float]) -> list[float]:
    """At most MOST_POINTS of the steps, evenly spaced, always with the last one."""
    stride = -(-len(steps) // MOST_POINTS)
    return steps[::-1][::stride][::-1] if stride else []


def _caption(column: TaskColumn) -> str:
    """What the marks mean, and the noise that a validation accuracy has because the split is finite."""
    records = [record for cell in column.cells.values() for record in cell.done]
    rows = min((validation_rows(record) for record in records), default=0)
    reached = [record.validation_accuracy for record in records if record.validation_accuracy is not None]
    band = "Line: mean of seeds; band: range; cross: diverged; grey: ladder, on the test split."
    if not rows or not reached:
        return band
    noise = percent(max(binomial_half_width(accuracy, rows) for accuracy in reached))
    return f"{band} Noise of {rows:,} validation rows: ± {noise} points."


def _points(record: Record) -> list[tuple[float, float]]:
    """(step, validation accuracy in percent) of each evaluation, for a run that is done or diverged."""
    key = "validation_accuracy"
    if record.status not in FINAL:
        return []
    return [(p["step"], 100 * p[key]) for p in record.curve if p.get(key) is not None and math.isfinite(p[key])]
