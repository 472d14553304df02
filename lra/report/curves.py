"""Learning curves: validation accuracy against the step, with the task's ladder; the same bytes each time."""

import io
import math
import textwrap
from collections.abc import Sequence

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lra.noise import binomial_half_width
from lra.record import FINAL, Record
from lra.report.cells import CONTROLS, Column, Group, base, rank
from lra.report.tables import percent, title_of

# Okabe and Ito's palette, then Tol's muted one for mechanisms of users: told apart by colour-blind readers
COLOURS = {
    "softmax": "#000000",
    "relu": "#E69F00",
    "elu": "#56B4E9",
    "flatten": "#009E73",
    "agent": "#CC79A7",
    "pola": "#D55E00",
    "mean": "#777777",
    "identity": "#AAAAAA",
}
OTHERS = ("#332288", "#882255", "#44AA99", "#999933", "#661100", "#6699CC")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
LABEL_GAP = 0.045  # of the axis: the least distance between two labels of rungs


def palette(groups: Sequence[Group]) -> dict[str, str]:
    """Mechanism -> colour, one and the same in all figures of a report."""
    strangers = sorted({base(row) for group in groups for row in group.rows} - set(COLOURS))
    return COLOURS | {name: OTHERS[i % len(OTHERS)] for i, name in enumerate(strangers)}


def figures(group: Group, colours: dict[str, str]) -> dict[str, bytes]:
    """'slug-listops.png' and '.svg' -> content, for each task of a table that has curves."""
    found = {}
    for column in group.columns:
        if any(_points(r) for cell in column.cells.values() for r in cell.records):
            for kind in ("png", "svg"):
                found[f"{group.slug}-{column.task}.{kind}"] = _render(group, column, colours, kind)
    return found


def _render(group: Group, column: Column, colours: dict[str, str], kind: str) -> bytes:
    rows = sorted(column.cells, key=rank)
    legend_columns = max(1, min(5, 95 // (8 + max(map(len, rows)))))
    height = 5.0 + 0.2 * math.ceil(len(rows) / legend_columns)
    settings = {"svg.hashsalt": "lra", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.style.context(["default", settings]):
        figure = Figure(figsize=(7.2, height), layout="constrained")
        title = f"{title_of(column.task)}, protocol {group.protocol.replace(',', ', ')}, {group.precision}"
        figure.suptitle(textwrap.fill(title, 80), x=0.02, ha="left")
        axes = figure.add_subplot()
        dashes = _dashes(rows)
        heights = [_draw(axes, row, column.cells[row].records, colours[base(row)], dashes[row]) for row in rows]
        _ladder(axes, column.ladder, [y for found in heights for y in found])
        axes.set_title(_caption(column), fontsize=7.5, color="#444444", loc="left")
        axes.set_xlabel("training step")
        axes.set_ylabel("validation accuracy, %")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        handles = axes.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=legend_columns, frameon=False)
        content = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(content, format=kind, dpi=150, metadata=metadata)
    return content.getvalue()


def _draw(axes: Axes, row: str, records: Sequence[Record], colour: str, dash: object) -> list[float]:
    """The mean over finished seeds, their range as a band; each diverged run up to a cross. Returns the heights."""
    runs = [dict(points) for r in records if r.status == "done" and (points := _points(r))]
    steps = sorted(set.intersection(*(set(run) for run in runs))) if runs else []
    values = [[run[step] for run in runs] for step in steps]
    means = [sum(at) / len(at) for at in values]
    if steps:
        marker = "." if len(steps) == 1 else None
        axes.plot(steps, means, color=colour, linestyle=dash, linewidth=1.6, marker=marker, label=row)
        if len(runs) > 1:
            low, high = [min(at) for at in values], [max(at) for at in values]
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    lost = [_points(r) for r in records if r.status == "diverged" and _points(r)]
    for points in lost:
        x, y = zip(*points, strict=True)
        named = not steps and points is lost[0]
        axes.plot(x, y, color=colour, linestyle=dash, linewidth=0.8, label=f"{row} (diverged)" if named else None)
        axes.plot(x[-1], y[-1], color=colour, marker="x", markersize=8, markeredgewidth=1.8, zorder=5)
    return [y for at in values for y in at] + [y for points in lost for _, y in points]


def _ladder(axes: Axes, ladder: dict[str, float], ys: Sequence[float]) -> None:
    """Thin lines, named at the right: the rungs near the curves and the next one above them."""
    top = max(ys, default=0.0)
    above = sorted(100 * a for a in ladder.values() if 100 * a > top)
    ceiling = above[0] if above else top
    shown = sorted((100 * a, name) for name, a in ladder.items() if 100 * a <= ceiling)
    low, high = min([*ys, *(y for y, _ in shown)]), max(top, ceiling)
    margin = 0.06 * (high - low) or 1.0
    low, high = low - margin, high + margin
    axes.set_ylim(low, high)
    places = _spread([(y - low) / (high - low) for y, _ in shown])
    for (y, name), place in zip(shown, places, strict=True):
        axes.axhline(y, color="#888888", linewidth=0.6, zorder=0.5)
        axes.annotate(
            f"{name} {y:.1f}",
            xy=(1, y),
            xycoords=axes.get_yaxis_transform(),
            xytext=(1.03, place),
            textcoords="axes fraction",
            fontsize=7.5,
            color="#555555",
            va="center",
            arrowprops={"arrowstyle": "-", "color": "#888888", "linewidth": 0.5, "relpos": (0, 0.5), "shrinkB": 0},
        )


def _spread(places: list[float]) -> list[float]:
    """Sorted heights in fractions of the axis, moved up just so far that labels do not touch."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + LABEL_GAP) if moved else place)
    return moved


def _dashes(rows: Sequence[str]) -> dict[str, object]:
    """A pattern per set of options of one mechanism; controls are dotted."""
    variants: dict[str, list[str]] = {}
    for row in rows:
        variants.setdefault(base(row), []).append(row)
    patterns: dict[str, object] = {}
    for found in variants.values():
        patterns |= {row: ":" if base(row) in CONTROLS else DASHES[i % len(DASHES)] for i, row in enumerate(found)}
    return patterns


def _caption(column: Column) -> str:
    """What the band is, and how far two test accuracies may differ by chance of the test rows."""
    rows = max((cell.test_rows for cell in column.cells.values()), default=0)
    means = [cell.summary.mean for cell in column.cells.values() if cell.summary]
    band = "Line: mean over seeds; band: their range; cross: diverged; grey: ladder."
    if not rows or not means:
        return band
    noise = percent(max(binomial_half_width(mean, rows) for mean in means))
    return f"{band} Noise of {rows:,} test rows: ± {noise} points (95 %)."


def _points(record: Record) -> list[tuple[float, float]]:
    """(step, validation accuracy in percent) of each evaluation of a run that ended by itself."""
    key = "validation_accuracy"
    if record.status not in FINAL:
        return []
    return [(p["step"], 100 * p[key]) for p in record.curve if p.get(key) is not None and math.isfinite(p[key])]
