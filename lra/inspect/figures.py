"""Figures that compare the attentions of one task: entropy, spectra, distance, powers; the same bytes each time."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from lra.inspect.findings import Findings
from lra.inspect.powers import KERNELS
from lra.inspect.tables import flow_names, sharpest
from lra.report.figures import style

GREY = "#666666"


@dataclass(frozen=True)
class Picture:
    """A figure before it is drawn: its name, title, alternative text, size in inches, and how to draw it."""

    name: str
    title: str
    alt: str
    size: tuple[float, float]
    draw: Callable[[Figure], None]

    def render(self) -> dict[str, bytes]:
        """'name.png' and 'name.svg' -> content."""
        width, height = self.size
        lines = textwrap.wrap(self.title, int(11.5 * width))
        with style.style(self.name):
            figure = Figure(figsize=(width, height + 0.17 * (len(lines) - 1)), layout="constrained")
            figure.suptitle("\n".join(lines), x=0.02, ha="left", fontsize=10)
            self.draw(figure)
            return style.save(figure, self.name, ("png", "svg"))


def colours(subjects: Sequence[Findings]) -> dict[str, str]:
    """Row -> colour, in the order of the rows."""
    rows = dict.fromkeys(findings.row for findings in subjects)
    return {row: style.COLOURS[place % len(style.COLOURS)] for place, row in enumerate(rows)}


def layers(table: Any) -> list[str]:
    return list(dict.fromkeys(table["layer"])) if len(table) else []


def compare(subjects: Sequence[Findings], numbers: Any, powers: Any, where: str) -> list[Picture]:
    """The figures of all subjects together, from `tables.numbers` and `tables.powers`. where: 'image, quick'."""
    if not len(numbers):
        return []
    every = layers(numbers)
    width = 1.6 + 2.9 * len(every)
    plain = numbers[numbers["convolution"] == "off"].dropna(subset=["entropy_relative"])  # of rows that are not empty
    if not len(plain):
        return by_power(powers, where)
    height = 2.2 + 0.02 * len(plain)
    curves = sum(len({key[1:] for key in findings.spectra}) for findings in subjects)
    return [
        Picture(
            "entropy",
            f"Entropy of attention rows over log N ({where})",
            f"Mean entropy of attention rows relative to log N, the sharpest first: {sharpest(numbers)}.",
            (width, height + 1),
            lambda figure: _entropies(figure, plain, every, colours(subjects)),
        ),
        Picture(
            "spectrum",
            f"Singular values of attention matrices ({where})",
            "Singular values over the largest one, per layer and attention; dashed: with the convolution.",
            (width + 1, max(4.2, 0.6 + 0.16 * curves)),
            lambda figure: _spectra(figure, subjects, every),
        ),
        Picture(
            "reach",
            f"Distance and concentration ({where})",
            "Mean distance between a query and what it attends to, and mass on its 8 heaviest keys, per attention.",
            (7.2, max(2.2, 1.2 + 0.25 * plain["attention"].nunique())),
            lambda figure: _reach(figure, plain, colours(subjects)),
        ),
        *by_power(powers, where),
    ]


def by_power(powers: Any, where: str) -> list[Picture]:
    """The figure of the entropy against the power, if any was measured."""
    rows = list(dict.fromkeys(powers["attention"]))
    picture = Picture(
        "powers",
        f"Entropy of rows against the power on the model's own q and k ({where})",
        "Mean entropy relative to log N, and share of rows it lowers, for powers 1 to 7 of four kernels.",
        (1.4 + 1.7 * len(rows), 4.8),
        lambda figure: _powers(figure, powers, rows),
    )
    return [picture] if rows else []


def _entropies(figure: Figure, numbers: Any, every: list[str], colour: dict[str, str]) -> None:
    """Draw a panel per layer with a dot per head and flow, and a line over 90 % of its rows."""
    panels: Any = figure.subplots(1, len(every), sharey=True, sharex=True, squeeze=False)[0]
    rows = list(dict.fromkeys(numbers["attention"]))
    for panel, layer in zip(panels, every, strict=True):
        panel.set_title(f"layer {layer}", fontsize=9, loc="left")
        panel.axvline(1, color=GREY, linewidth=0.6)
        for place, row in enumerate(rows):
            lines = numbers[(numbers["attention"] == row) & (numbers["layer"] == layer)]
            for i, (_, one) in enumerate(lines.iterrows()):
                y = place + (i - (len(lines) - 1) / 2) * 0.16
                whole = one["entropy_nats"] / one["entropy_relative"] if one["entropy_relative"] else 1.0
                ends = [one["entropy_p05"] / whole, one["entropy_p95"] / whole]
                panel.plot(ends, [y, y], color=colour[row], linewidth=1.2)
                panel.plot(one["entropy_relative"], y, color=colour[row], marker=_marker(one["flow"]), markersize=4)
        panel.set_yticks(range(len(rows)), rows)
        panel.set_xlabel("entropy / log N (1: uniform)")
        panel.grid(axis="x", color="#E5E5E5", linewidth=0.6)
    panels[0].invert_yaxis()
    flows = [flow for flow in dict.fromkeys(numbers["flow"]) if flow != "all"]
    note = "a dot per head and flow, the mean over rows; line: 5 to 95 % of rows"
    if flows:
        note += "; " + ", ".join(f"{'●■'[_marker(flow) == 's']} {flow}" for flow in flows)
    figure.supxlabel(note, fontsize=7.5, color=GREY, x=0.02, ha="left")


def _marker(flow: str) -> str:
    return "s" if flow == "opposite" else "o"


def _spectra(figure: Figure, subjects: Sequence[Findings], every: list[str]) -> None:
    panels: Any = figure.subplots(1, len(every), sharey=True, squeeze=False)[0]
    colour = colours(subjects)
    for panel, layer in zip(panels, every, strict=True):
        panel.set_title(f"layer {layer}", fontsize=9, loc="left")
        for findings in subjects:
            names = flow_names(findings)
            for (at, flow, local), values in findings.spectra.items():
                if at != layer:
                    continue
                name = names[at, flow]
                label = findings.row if name == "all" else f"{findings.row}, {name}"
                panel.plot(
                    range(1, len(values) + 1),
                    values.clamp(min=1e-17).tolist(),
                    color=colour[findings.row],
                    alpha=0.55 if flow else 1.0,
                    linestyle=(0, (4, 1.5)) if local else "-",
                    linewidth=1.3,
                    label=f"{label} + convolution" if local else label,
                )
        panel.set(xscale="log", yscale="log", ylim=(1e-9, 1.5), xlabel="number of the singular value")
        panel.xaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.minorticks_off()
        panel.grid(color="#E5E5E5", linewidth=0.6)
    panels[0].set_ylabel("over the largest")
    named = {label: line for panel in panels for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named.keys(), loc="outside right center", frameon=False, fontsize=7.5)


def _reach(figure: Figure, numbers: Any, colour: dict[str, str]) -> None:
    unit = "pixels" if "distance_pixels" in numbers and numbers["distance_pixels"].notna().all() else "tokens"
    rows = list(dict.fromkeys(numbers["attention"]))
    panels: Any = figure.subplots(1, 2, sharey=True)
    for panel, column in zip(panels, (f"distance_{unit}", "top_8"), strict=True):
        for place, row in enumerate(rows):
            lines = numbers[numbers["attention"] == row]
            for flow, part in lines.groupby("flow", sort=False):
                values = part[column].tolist()
                panel.plot(values, [place] * len(values), color=colour[row], linestyle="", marker=_marker(str(flow)),
                           markersize=4, alpha=0.8)  # fmt: skip
        panel.set_yticks(range(len(rows)), rows)
        panel.grid(axis="x", which="both", color="#E5E5E5", linewidth=0.6)
    uniform = {f"distance_{unit}": numbers[f"distance_{unit}_uniform"].mean(), "top_8": (8 / numbers["tokens"]).mean()}
    for panel, (name, value) in zip(panels, uniform.items(), strict=True):
        panel.axvline(value, color=GREY, linewidth=0.8)
        what = "mass on the 8 heaviest keys" if name == "top_8" else f"mean distance, {unit}"
        panel.set_xlabel(f"{what} (line: uniform)")
    panels[0].set_xlim(0, 1.2 * max(uniform[f"distance_{unit}"], numbers[f"distance_{unit}"].max()))
    panels[1].set_xscale("log")
    panels[1].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panels[1].xaxis.set_major_formatter("{x:g}")
    panels[1].xaxis.set_minor_formatter(NullFormatter())
    panels[0].set_ylim(len(rows) - 0.5, -0.5)


def _powers(figure: Figure, powers: Any, rows: list[str]) -> None:
    """Draw a column per attention: entropy above, and below the share of rows with less entropy than at p = 1."""
    panels: Any = figure.subplots(2, len(rows), sharex=True, sharey="row", squeeze=False)
    tints = dict(zip(KERNELS, ("#E69F00", "#009E73", "#D55E00", "#0072B2"), strict=True))
    for column, row in enumerate(rows):
        means = powers[powers["attention"] == row].groupby(["kernel", "power"], sort=False).mean(numeric_only=True)
        for kernel, tint in tints.items():
            if kernel not in means.index.get_level_values(0):
                continue
            curve = means.loc[kernel]
            for panel, name in zip(panels[:, column], ("entropy_relative", "rows_lowered"), strict=True):
                shown = curve[name] if name == "entropy_relative" else curve[name][curve.index > 1]
                panel.plot(shown.index, shown, color=tint, marker=".", linewidth=1.3, label=kernel)
        panels[0, column].set_title(row, fontsize=9, loc="left")
        panels[1, column].set_xlabel("power p")
        panels[1, column].set(xticks=(1, 3, 5, 7))
        for panel in panels[:, column]:
            panel.grid(color="#E5E5E5", linewidth=0.6)
    panels[0, 0].set_ylabel("entropy / log N")
    lowest = powers[powers["power"] > 1].groupby(["attention", "kernel", "power"])["rows_lowered"].mean().min()
    panels[1, 0].set_ylim(min(0.95, lowest) - 0.02, 1.01)
    panels[1, 0].set_ylabel("rows lowered\nagainst p = 1")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, 2 * len(rows)), frameon=False, fontsize=8)
