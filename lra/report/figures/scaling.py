"""Time and memory of a step against the length, from bench records: what O(N) means on a real machine."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from lra.report import conventions
from lra.report.conditions import machine
from lra.report.figures import style
from lra.report.figures.legend import Legend
from lra.report.figures.style import Palette
from lra.report.groups import Group, base, rank
from lra.results.bench_record import DONE, UNIFORM, Bench, commonest, newest

WIDTH = 6.4  # inches
FOUR_K = (4000, 4096)


@dataclass(frozen=True)
class Scaling:
    """Measurements that may share a figure: one machine, shape, mode and setting, at several lengths."""

    slug: str
    title: str
    machine: str
    gear: str
    benches: tuple[Bench, ...]

    @property
    def rows(self) -> list[str]:
        controls = {b.row: conventions.is_control(b.attention, base(b.row)) for b in self.benches}
        return sorted(controls, key=lambda row: rank(row, controls[row]))

    @property
    def machine_and_gear(self) -> str:
        return f"{self.machine}, {self.gear}"

    @property
    def training(self) -> bool:
        return self.benches[0].mode == "training" and self.benches[0].shape == UNIFORM

    @property
    def setting(self) -> tuple[str, str]:
        return self.benches[0].protocol, self.benches[0].precision

    def of(self, row: str) -> list[Bench]:
        """The finished measurements of a row, by length."""
        return sorted((b for b in self.benches if b.row == row and b.status == DONE), key=lambda b: b.length)

    def growth(self, row: str) -> float | None:
        """The exponent of length in the time of a step, between the two longest lengths."""
        points = {b.length: b.median for b in self.of(row) if b.median}
        if len(points) < 2:
            return None
        (shorter, before), (longer, after) = list(points.items())[-2:]
        return math.log(after / before) / math.log(longer / shorter)

    @property
    def lost(self) -> list[str]:
        """'softmax at 16,384: out of memory' for each measurement without a figure."""
        order = {row: position for position, row in enumerate(self.rows)}
        ends = sorted((b for b in self.benches if b.status != DONE), key=lambda b: (order[b.row], b.length))
        return [f"{b.row} at {b.length:,}: {b.status}" for b in ends]


def collect(benches: Sequence[Bench]) -> list[Scaling]:
    """Bench records -> the figures they make. A cold first step has no place in them, nor has a step of no length."""
    comparable: dict[tuple[Any, ...], list[Bench]] = {}
    for bench in newest(bench for bench in benches if bench.length and not bench.cold):
        comparable.setdefault((bench.shape, bench.mode, bench.batch, *bench.setting), []).append(bench)
    several = [members for members in comparable.values() if len({b.length for b in members}) > 1]
    return [_scaling(members, number) for number, members in enumerate(several, 1)]


def benches_of(scalings: Sequence[Scaling]) -> list[Bench]:
    """The measurements of all figures, for the report's palette."""
    return [bench for scaling in scalings for bench in scaling.benches]


def _scaling(benches: list[Bench], number: int) -> Scaling:
    first = benches[0]
    shape = "" if first.shape == UNIFORM else f"{conventions.task_title(first.shape)} lengths, "
    title = f"{first.mode.capitalize()} step, {shape}batch {first.batch}, {first.protocol}, {first.precision}"
    return Scaling(f"length-{number}", title, machine(first.environment), first.gear, tuple(benches))


def milliseconds(scalings: Sequence[Scaling], group: Group) -> dict[str, float]:
    """Row -> milliseconds of a training step at 4,096 or 4,000 tokens, in the group's setting and on its machine.

    They are from one figure. The figures of all machines count where no run of the group was timed.
    """
    same = [s for s in scalings if s.training and (group.protocol, group.precision) == s.setting]
    same = [s for s in same if group.machine in ("", s.machine)]
    candidates = []
    for scaling in same:
        length = commonest(scaling.benches, FOUR_K)
        candidates.append({b.row: 1e3 * b.median for b in scaling.benches if b.length == length and b.median})
    return max(candidates, key=len, default={})


def draw(scaling: Scaling, palette: Palette) -> dict[str, bytes]:
    """'length-1-time.svg', 'length-1-memory.svg' and their PDFs -> content."""
    caption = (
        f"Median of repeats; band: quartiles. N^: growth between the two longest lengths. {scaling.machine_and_gear}"
    )
    drawn = _figure(scaling, "time", caption, "milliseconds per step", lambda b: b.median and 1e3 * b.median, palette)
    if largest := max((b.step_bytes or 0 for row in scaling.rows for b in scaling.of(row)), default=0):
        unit, size = ("GB", 1e9) if largest >= 1e9 else ("MB", 1e6)
        caption = f"Peak memory of a step, less what is held between steps. {scaling.machine_and_gear}"
        drawn |= _figure(
            scaling, "memory", caption, unit, lambda b: b.step_bytes / size if b.step_bytes else None, palette
        )
    return drawn


def _figure(
    scaling: Scaling,
    quantity: str,
    caption: str,
    unit: str,
    value: Callable[[Bench], float | None],
    palette: Palette,
) -> dict[str, bytes]:
    rows, name = scaling.rows, f"{scaling.slug}-{quantity}"
    legend = Legend(rows, palette, WIDTH, 6 + max(map(len, rows)), most=4)
    dashes = palette.dashes(rows)
    with style.style(name):
        figure = style.blank(scaling.title, caption, (WIDTH, 4.2 + legend.height), (0.72, 0.2, 0.45 + legend.height))
        axes = figure.add_subplot()
        for row in rows:
            points = [(b, y) for b in scaling.of(row) if (y := value(b))]
            growth = scaling.growth(row) if quantity == "time" else None
            label = row if growth is None else f"{row}, N^{growth:.1f}"
            line = {"color": palette.colour(row), "linestyle": dashes[row], "linewidth": 1.4, "gid": f"row {row}"}
            x = [b.length for b, _ in points]
            marker = palette.marker(row)
            axes.plot(x, [y for _, y in points], marker=marker, markersize=3, label=label, **line)
            if quantity == "time":
                ends = [b.quartiles or (0.0, 0.0) for b, _ in points]
                low, high = ([1e3 * end[side] for end in ends] for side in (0, 1))
                axes.fill_between(x, low, high, color=palette.colour(row), alpha=0.15, linewidth=0, gid=f"row {row}")
        _axes(axes, sorted({b.length for b in scaling.benches}), unit)
        legend.draw(figure, axes)
        return style.save(figure, name)


def _axes(axes: Axes, lengths: Sequence[int], unit: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(lengths, [f"{n:,}" for n in lengths])
    plain = FuncFormatter(lambda y, _: f"{y:,g}")
    axes.yaxis.set_major_formatter(plain)
    axes.minorticks_off()
    low, high = axes.get_ylim()
    if high / low < 30:  # too few powers of ten to read a value
        axes.set_yticks([y for p in range(-6, 9) for m in (1, 2, 5) if low <= (y := m * 10.0**p) <= high])
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("length, tokens")
    axes.set_ylabel(unit)
