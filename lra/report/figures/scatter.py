"""Accuracy against speed with peak memory as the bubble, and its Pareto front (the figure of Tay et al. 2021, LRA).

Speed is real tokens per second in training, so a figure shows runs of one machine only: the one with most runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi, sqrt
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lra.report import conventions
from lra.report.cells import TaskColumn
from lra.report.conditions import machine
from lra.report.figures import style
from lra.report.figures.legend import words
from lra.report.figures.style import Palette
from lra.report.groups import Group

LARGEST = 26.0  # points, the diameter of the bubble with the highest peak
# Where a name may be written: gaps to the right and up from its bubble; at FAR gaps a line joins the two.
PLACES = ((1, 0), (-1, 0), (0, 1), (0, -1), (0.8, 0.8), (-0.8, 0.8), (0.8, -0.8), (-0.8, -0.8))
PLACES += ((0, 2), (0, -2), (2, 1), (-2, 1), (2, -1), (-2, -1), (2, 2), (-2, 2), (2, -2), (-2, -2))
FAR = 2  # gaps


@dataclass(frozen=True)
class Bubble:
    """One row: accuracy and its sample standard deviation in percent, tokens per second, peak bytes."""

    row: str
    control: bool
    accuracy: float
    deviation: float | None
    speed: float
    peak: float | None


@dataclass(frozen=True)
class Scatter:
    """What a figure shows: a task or, without one, the average over all. left_out: rows that ran on other machines."""

    task: str
    title: str
    machine: str
    bubbles: tuple[Bubble, ...]
    left_out: tuple[str, ...]

    @property
    def front(self) -> list[Bubble]:
        """Attentions that no other beats in both accuracy and speed, slowest first; controls do not count."""
        rivals = [b for b in self.bubbles if not b.control]
        best = [b for b in rivals if not any(_beats(other, b) for other in rivals)]
        return sorted(best, key=lambda b: (b.speed, -b.accuracy))


def _beats(one: Bubble, other: Bubble) -> bool:
    no_worse = one.accuracy >= other.accuracy and one.speed >= other.speed
    return no_worse and (one.accuracy, one.speed) != (other.accuracy, other.speed)


def scatters(group: Group) -> list[Scatter]:
    """One per task and, where there are several, one for the table's average, of the rows that ran on all of them."""
    if not (shown_machine := group.machine):
        return []
    selections: list[tuple[str, tuple[TaskColumn, ...]]] = [("", columns) for columns in [*group.averages.values()][:1]]
    selections += [(c.task, (c,)) for c in group.columns]
    candidates = [_scatter(group, task, columns, shown_machine) for task, columns in selections]
    return [scatter for scatter in candidates if scatter.bubbles]


def _scatter(group: Group, task: str, columns: Sequence[TaskColumn], shown_machine: str) -> Scatter:
    bubbles, left_out = [], []
    for row in group.rows:
        runs_by_task = [
            [r for r in c.cells[row].done if machine(r.environment) == shown_machine] for c in columns if row in c.cells
        ]
        if len(runs_by_task) < len(columns) or not all(c.cells[row].done for c in columns):
            continue
        if not all(any(r.tokens_per_second for r in runs) for runs in runs_by_task):
            left_out.append(row)
            continue
        summaries = [summary for c in columns if (summary := c.cells[row].summary)]
        speeds = [fmean(r.tokens_per_second for r in runs if r.tokens_per_second) for runs in runs_by_task]
        peaks = [r.peak_bytes for runs in runs_by_task for r in runs if r.peak_bytes]
        deviation = summaries[0].deviation if task else None
        spread = 100 * deviation if deviation is not None else None
        accuracy = 100 * fmean(s.mean for s in summaries)
        # the harmonic mean: the speed over the same number of tokens of each task
        speed = len(speeds) / sum(1 / s for s in speeds)
        bubbles.append(Bubble(row, row in group.controls, accuracy, spread, speed, max(peaks, default=None)))
    title = columns[0].title if task else f"Average of {len(columns)}"
    return Scatter(task, title, shown_machine, tuple(bubbles), tuple(left_out))


def draw(group: Group, scatter: Scatter, palette: Palette) -> dict[str, bytes]:
    """'slug-listops-speed.svg' and '.pdf' -> content."""
    name = f"{group.slug}-{scatter.task or 'average'}-speed"
    with style.style(name):
        top = max((b.peak for b in scatter.bubbles if b.peak), default=0)
        caption = f"Area: peak memory, up to {top / 1e9:.2f} GB. " if top else ""
        caption += f"Dashes: Pareto front. Whisker: sample standard deviation. {scatter.machine}"
        title = f"{scatter.title}, protocol {group.protocol.replace(',', ', ')}, {group.precision}"
        below = 0.25 if palette.by_family else 0.0
        figure = style.blank(title, caption, (6.4, 4.5 + below), (0.62, 0.2, 0.45 + below))
        axes = figure.add_subplot()
        sizes = {b.row: LARGEST * sqrt(b.peak / top) if b.peak else 5.0 for b in scatter.bubbles}
        for bubble in sorted(scatter.bubbles, key=lambda b: -sizes[b.row]):
            _bubble(axes, bubble, sizes[bubble.row], palette)
        front = scatter.front
        line = {"color": style.LINE, "linewidth": 0.9, "linestyle": (0, (4, 2)), "zorder": 1}
        axes.plot([b.speed / 1e3 for b in front], [b.accuracy for b in front], gid="front", **line)
        axes.margins(0.14, 0.16)
        axes.autoscale_view()
        axes.set_xlabel("thousand tokens per second in training")
        axes.set_ylabel("test accuracy, %")
        _label(axes, scatter.bubbles, sizes)
        if palette.by_family:
            _families(figure, scatter.bubbles, palette)
        return style.save(figure, name)


def _families(figure: Figure, bubbles: Sequence[Bubble], palette: Palette) -> None:
    """Name the marker and the hue of each family below the axes."""
    first = {palette.family(b.row): b.row for b in reversed(bubbles)}
    handles = []
    for family in sorted(first, key=conventions.family_order):
        marker, colour = palette.marker(first[family]), palette.colour(first[family])
        fill = "none" if family == conventions.CONTROL else "full"
        label = words(family)
        handles.append(Line2D([], [], linestyle="", marker=marker, color=colour, fillstyle=fill, label=label))
    layout = {"loc": "lower center", "ncols": len(handles)}
    figure.legend(handles=handles, handletextpad=0, columnspacing=0.9, fontsize=8, **layout)


def _bubble(axes: Axes, bubble: Bubble, size: float, palette: Palette) -> None:
    """A control is a ring, an attention is filled; the whisker is one sample standard deviation."""
    control, gid, colour = bubble.control, f"row {bubble.row}", palette.colour(bubble.row)
    x, y = bubble.speed / 1e3, bubble.accuracy
    if bubble.deviation:
        ends = [y - bubble.deviation, y + bubble.deviation]
        axes.plot([x, x], ends, color=colour, linewidth=0.9, zorder=2, gid=gid)
    face = {"facecolor": "none" if control else colour, "alpha": 0.9 if control else 0.55, "edgecolor": colour}
    marker = palette.marker(bubble.row)
    axes.scatter([x], [y], s=pi / 4 * size**2, linewidth=1, zorder=3, gid=gid, marker=marker, **face)


def _label(axes: Axes, bubbles: Sequence[Bubble], sizes: dict[str, float]) -> None:
    """Write the name of each bubble where it covers least of the bubbles and other names, inside the axes."""
    inside = tuple(edge * 72 / axes.figure.dpi for edge in axes.bbox.extents)
    points = {b.row: axes.transData.transform((b.speed / 1e3, b.accuracy)) * 72 / axes.figure.dpi for b in bubbles}
    taken = [(x - s / 2, y - s / 2, x + s / 2, y + s / 2) for r, (x, y) in points.items() for s in (sizes[r],)]
    for bubble in bubbles:
        (x, y), gap, width = points[bubble.row], sizes[bubble.row] / 2 + 3, 4.9 * len(bubble.row)
        choices = []
        for right, up in PLACES:
            anchor = (x + right * gap, y + up * (gap + 4))
            align = "left" if right > 0 else "right" if right else "center"
            left = {"left": anchor[0], "right": anchor[0] - width, "center": anchor[0] - width / 2}[align]
            box = (left, anchor[1] - 5, left + width, anchor[1] + 5)
            covered = sum(_overlap(box, other) for other in taken) + 10 * width - _overlap(box, inside)
            choices.append((covered, len(choices), anchor, align, box))
        _, choice, anchor, align, box = min(choices)
        taken.append(box)
        offset = (anchor[0] - x, anchor[1] - y)
        far = max(map(abs, PLACES[choice])) >= FAR
        line = {"arrowstyle": "-", "color": style.MUTED, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0}
        axes.annotate(
            bubble.row,
            xy=(bubble.speed / 1e3, bubble.accuracy),
            xytext=offset,
            textcoords="offset points",
            ha=align,
            va="center",
            fontsize=8,
            gid=f"row {bubble.row}",
            arrowprops=line if far else None,
        )


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Area that two boxes (left, bottom, right, top) share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
