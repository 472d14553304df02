"""Figures of one attention: its matrices, and parts that only some have: gate, powers, focusing, agents."""

import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lra.inspect.figures import GREY, Picture
from lra.inspect.findings import Findings
from lra.inspect.mechanism_parts import Gate
from lra.inspect.numbers import shrink
from lra.inspect.tables import flow_names

LEVELS = 97  # colours of a scale: together with those of the letters they fit a palette of 256
DECADES = 1.5  # weights are shown from 10^-1.5 to 10^1.5 times uniform
TINTS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")


def figures_of(found: Findings, where: str) -> list[Picture]:
    """The figures of one subject. where: 'image, quick'."""
    if not found.pictures:
        return []
    slug, of = re.sub(r"[^a-z0-9._=]+", ".", found.row.lower()), f"{found.row} ({where}, {found.origin})"
    columns = max(table.shape[0] * table.shape[1] for table in found.pictures.values())
    matrices = Picture(
        f"matrices-{slug}",
        f"Attention of {of}",
        f"Token-to-token weights of {found.row}, queries downwards, a picture per layer, head and flow.",
        (1.4 + 1.9 * columns, 0.7 + 2.1 * len(found.pictures)),
        lambda figure: _matrices(figure, found),
    )
    gate = Picture(
        f"gate-{slug}",
        f"Gate of {of}",
        f"Values of the gate's flows and the correlation of its channels over tokens: {_words(found)}.",
        (7.4, 0.7 + 2.6 * len(found.gates)),
        lambda figure: _gates(figure, found.gates, flow_names(found)),
    )
    focusing = Picture(
        f"focusing-{slug}",
        f"Focusing of {of}",
        f"Entropy over channels of queries and keys, before and after the features: {_focused(found)}.",
        (1.2 + 2.9 * len(found.focusing), 2.8),
        lambda figure: _focusing(figure, found),
    )
    agents = Picture(
        f"agents-{slug}",
        f"The two maps of {of}",
        "Above, what each agent gathers from the tokens; below, which agents each token reads.",
        (1.4 + 2.6 * _panels(found), 5.0),
        lambda figure: _agents(figure, found),
    )
    shown = [
        picture for picture, has in ((gate, found.gates), (focusing, found.focusing), (agents, found.agents)) if has
    ]
    return [matrices, *shown, *_learned_of(found, slug, of)]


def _learned_of(findings: Findings, slug: str, of: str) -> list[Picture]:
    """A figure of the powers and one of the scales, if there are any."""
    pictures = []
    for name in ("power", "scale"):
        tables = {layer: both[name] for layer, both in findings.learned.items() if name in both}
        spans = ", ".join(f"layer {n} {t.min():.2f} to {t.max():.2f}" for n, t in tables.items())
        picture = Picture(
            f"{name}-{slug}",
            f"Learned {name}s of {of}",
            f"Learned {name}s, sorted channels of each head: {spans}.",
            (1.2 + 2.6 * len(tables), 2.6),
            lambda figure, name=name, tables=tables: _learned(figure, name, tables),
        )
        pictures += [picture] if tables else []
    return pictures


def show(axes: Axes, ratio: Tensor) -> Any:
    """An image of weights over uniform ones, on a log scale; white is uniform."""
    image = axes.imshow(
        ratio.clamp(min=10 ** (-2 * DECADES)).log10().numpy(),
        cmap=matplotlib.colormaps["RdBu_r"].resampled(LEVELS),
        vmin=-DECADES,
        vmax=DECADES,
        interpolation="nearest",
        aspect="auto",
    )
    axes.set(xticks=[], yticks=[])
    return image


def _bar(figure: Figure, image: Any, axes: Any) -> None:
    ticks = (-DECADES, -1, 0, 1, DECADES)
    bar = figure.colorbar(image, ax=axes, ticks=ticks, shrink=0.7, extend="both")
    bar.ax.set_yticklabels([f"{10.0**tick:.2g}" for tick in ticks], fontsize=7)
    bar.set_label("weight times number of keys", fontsize=7.5)


def _matrices(figure: Figure, findings: Findings) -> None:
    columns = max(table.shape[0] * table.shape[1] for table in findings.pictures.values())
    panels: Any = figure.subplots(len(findings.pictures), columns, squeeze=False)
    names = flow_names(findings)
    image: Any = None
    for line, (layer, table) in zip(panels, findings.pictures.items(), strict=True):
        heads, flows = table.shape[:2]
        for axes in line[heads * flows :]:
            axes.set_axis_off()
        for i, axes in enumerate(line[: heads * flows]):
            head, flow = divmod(i, flows)
            image = show(axes, table[head, flow].abs())
            name = names[layer, flow]
            title = f"head {head}" if name == "all" else f"head {head}, {name}"
            axes.set_title(f"layer {layer}, {title}", fontsize=7.5, loc="left")
    _bar(figure, image, panels)


def _words(findings: Findings) -> str:
    texts = []
    for gate in findings.gates:
        between = gate.numbers().get("correlation_between")
        texts.append(f"layer {gate.layer}" + ("" if between is None else f", between the flows {between:+.2f}"))
    return "; ".join(texts)


def _gates(figure: Figure, gates: Sequence[Gate], names: dict[tuple[str, int], str]) -> None:
    """Draw the values of each flow's channels (left) and Pearson's correlation of all channels over tokens (right)."""
    panels: Any = figure.subplots(len(gates), 2, squeeze=False, width_ratios=(1.5, 1))
    image: Any = None
    for (left, right), gate in zip(panels, gates, strict=True):
        ends = torch.cat([v.flatten() for v in gate.values])
        low, high = float(ends.min()), float(ends.max())
        edges = torch.linspace(low, high, 61).tolist()
        for flow, values in enumerate(gate.values):
            counts = torch.histc(values.flatten(), 60, low, high)
            heights = (counts / counts.sum()).tolist()
            left.stairs(
                heights, edges, color=TINTS[flow], label=f"{names[gate.layer, flow]}, mean {values.mean():+.2f}"
            )
        left.axvline(0, color=GREY, linewidth=0.6)
        left.set_title(
            f"layer {gate.layer}: values of the gate, share of tokens and channels", fontsize=7.5, loc="left"
        )
        left.legend(frameon=False, fontsize=7.5)
        image = right.imshow(
            gate.correlation.numpy(),
            cmap=matplotlib.colormaps["PuOr_r"].resampled(LEVELS),
            vmin=-1,
            vmax=1,
            interpolation="nearest",
        )
        right.set(xticks=[], yticks=[])
        edge = -0.5
        for flow, values in enumerate(gate.values):
            middle = edge + values.shape[1] / 2
            right.text(-1.5, middle, names[gate.layer, flow], rotation=90, ha="right", va="center", fontsize=7.5)
            edge += values.shape[1]
            right.axhline(edge, color="black", linewidth=0.5)
            right.axvline(edge, color="black", linewidth=0.5)
        right.set_title("correlation of channels over tokens", fontsize=7.5, loc="left")
    bar = figure.colorbar(image, ax=panels[:, 1], shrink=0.7)
    bar.ax.tick_params(labelsize=7)


def _learned(figure: Figure, name: str, tables: dict[str, Tensor]) -> None:
    panels: Any = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
    for axes, (layer, table) in zip(panels, tables.items(), strict=True):
        for head, values in enumerate(table):
            axes.plot(values.sort().values.tolist(), color=TINTS[head % len(TINTS)], label=f"head {head}", marker=".")
        axes.set_title(f"layer {layer}", fontsize=9, loc="left")
        axes.set_xlabel("channel, sorted")
        axes.grid(color="#E5E5E5", linewidth=0.6)
    panels[0].set_ylabel({"power": "1 + alpha sigmoid(w)", "scale": "softplus(s)"}[name])
    panels[0].legend(frameon=False, fontsize=7.5)


def _focused(findings: Findings) -> str:
    parts = [
        f"layer {n} q {e['q before'].mean():.2f} to {e['q after'].mean():.2f}" for n, e in findings.focusing.items()
    ]
    return "; ".join(parts)


def _focusing(figure: Figure, findings: Findings) -> None:
    panels: Any = figure.subplots(1, len(findings.focusing), sharey=True, sharex=True, squeeze=False)[0]
    for axes, (layer, entropies) in zip(panels, findings.focusing.items(), strict=True):
        for i, (name, values) in enumerate(entropies.items()):
            counts = torch.histc(values.nan_to_num(0).clamp(0, 1), 50, 0, 1)
            heights = (counts / counts.sum()).tolist()
            style = ":" if name.endswith("before") else "-"
            axes.stairs(heights, [n / 50 for n in range(51)], color=TINTS[i // 2], linestyle=style, label=name)
        axes.set_title(f"layer {layer}", fontsize=9, loc="left")
        axes.set_xlabel("entropy over channels / log D")
    panels[0].set_ylabel("share of tokens")
    panels[0].legend(frameon=False, fontsize=7.5)


def _panels(findings: Findings) -> int:
    """The heads of all layers that have agents; in a pyramid the layers have different numbers of heads."""
    return sum(len(gather) for gather, _ in findings.agents.values())


def _agents(figure: Figure, findings: Findings) -> None:
    panels: Any = figure.subplots(2, _panels(findings), squeeze=False)
    image: Any = None
    column = 0
    for layer, (gather, read) in findings.agents.items():
        for head in range(len(gather)):
            for axes, table in zip(panels[:, column], (gather[head], read[head].T), strict=True):
                image = show(axes, shrink(table / table.mean()))
            panels[0, column].set_title(f"layer {layer}, head {head}: gather", fontsize=7.5, loc="left")
            panels[1, column].set_title("read", fontsize=7.5, loc="left")
            panels[1, column].set_xlabel("token", fontsize=7.5)
            column += 1
    for axes in panels[:, 0]:
        axes.set_ylabel("agent", fontsize=7.5)
    _bar(figure, image, panels)
