"""A forest plot of each row's difference to a baseline, paired by seed."""

from matplotlib.figure import Figure

from lra.report.figures import style
from lra.report.figures.style import Palette
from lra.report.groups import Group
from lra.stats.differences import Difference

CAPTION = "Percentage points. Line: 95 % interval, from three common seeds on. Filled: separated."


def draw(group: Group, baseline: str, palette: Palette) -> dict[str, bytes]:
    """'slug-differences.svg' and '.pdf' -> content: a panel per task; empty without common seeds."""
    panels = {column.task: differences for column in group.columns if (differences := column.against(baseline))}
    rows = [row for row in group.rows if any(row in differences for differences in panels.values())]
    if not rows:
        return {}
    name = f"{group.slug}-differences"
    with style.style(name):
        title = f"Difference to {baseline}, protocol {group.protocol.replace(',', ', ')}, {group.precision}"
        left = 0.3 + 0.075 * max(map(len, rows))
        size = (max(5.6, left + 2.0 * len(panels)), 1.4 + 0.26 * len(rows))
        figure = style.blank(title, CAPTION, size, (left, 0.2, 0.5))
        _panels(figure, panels, {c.task: c.title for c in group.columns}, rows, palette)
        return style.save(figure, name)


def _panels(
    figure: Figure, panels: dict[str, dict[str, Difference]], titles: dict[str, str], rows: list[str], palette: Palette
) -> None:
    axes_of = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (task, differences) in zip(axes_of, panels.items(), strict=True):
        axes.axvline(0, color=style.LINE, linewidth=0.8, zorder=1)
        for row, d in differences.items():
            y, line = rows.index(row), {"color": palette.colour(row), "gid": f"row {row}"}
            if d.interval:
                axes.plot([100 * end for end in d.interval], [y, y], linewidth=1.6, zorder=2, **line)
            face = line["color"] if d.separated else "#ffffff"
            axes.plot([100 * d.mean], [y], marker="o", markersize=5, markerfacecolor=face, zorder=3, **line)
        axes.set_xlabel(titles[task])
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
