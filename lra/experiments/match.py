"""Equal numbers of parameters: `--match-params`, and `list --long`, which says how far they are apart.

All counts are without embeddings (tokens and positions), which every mechanism has alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import attention_zoo
import tasks
from lra.config import resolve as configuration
from lra.console import say
from lra.errors import ConfigError
from lra.experiments.data import Ready
from lra.experiments.plan import Request, plan
from lra.experiments.run import Cell, make_model

TARGET = "softmax"  # whose number the others are brought to
TOLERANCE = 0.01
LONG, SHORT = 4_096, 1_024  # tokens at which operations are counted
SIZES = tasks.Spec(vocab=2, classes=10, length=2_000)  # ListOps, but for the embeddings
LEGEND = """\
parameters: of the standard model for ListOps, without embeddings; to softmax: how far from its number
MFLOP 1K, 4K: attention of one layer, forward, one sequence of 1,024 or 4,096 tokens"""
HEADER = ("attention", "parameters", "to softmax", "cost", "MFLOP 1K", "MFLOP 4K", "fidelity", "source")


def count(cell: Cell, spec: tasks.Spec) -> int:
    """Parameters of a cell's model without embeddings. Raises SpecError or ConfigError."""
    from lra.backbones.flat import count_parameters

    return count_parameters(make_model(cell, spec))["without_embeddings"]


def with_mlp(cell: Cell, width: int) -> Cell:
    """The same cell with another hidden width of the MLPs."""
    return replace(cell, config=replace(cell.config, model=replace(cell.config.model, mlp=width)))


def match(cells: list[Cell], ready: dict[str, Ready]) -> list[Cell]:
    """The cells, and beside each whose count is not softmax's one more, `pola (matched)`, with another MLP.

    ready: data by `Cell.data_key`; cells without data stay alone. Raises ConfigError where no MLP is small enough.
    """
    target_entry, options = attention_zoo.find(TARGET)
    widths: dict[tuple[str, str, str], tuple[int, float]] = {}
    found = []
    for cell in cells:
        found.append(cell)
        if cell.data_key not in ready:
            continue
        spec, key = ready[cell.data_key].data.spec, (cell.data_key, cell.row, configuration.hash_of(cell.config))
        if key not in widths:
            goal = count(replace(cell, attention=target_entry, options=options), spec)
            widths[key] = matched_width(
                cell.row, cell.config.model.mlp, goal, lambda w, c=cell, s=spec: count(with_mlp(c, w), s)
            )
        width, difference = widths[key]
        if width != cell.config.model.mlp:
            about = {
                "to": TARGET,
                "mlp": width,
                "protocol_mlp": cell.config.model.mlp,
                "difference": round(difference, 5),
                "config_hash": configuration.hash_of(cell.config),
            }
            found.append(replace(with_mlp(cell, width), row=f"{cell.row} (matched)", matched=about))
    return found


def matched_width(row: str, width: int, goal: int, count_at: Callable[[int], int]) -> tuple[int, float]:
    """Hidden width of the MLPs at which `count_at` is nearest to the goal, and the relative difference that is left.

    The count is linear in the width. Raises ConfigError when the difference stays above 1 %.
    """
    here = count_at(width)
    slope = count_at(width + 1) - here
    best = max(1, width + round((goal - here) / slope))
    difference = count_at(best) / goal - 1
    if abs(difference) > TOLERANCE:
        raise ConfigError(
            f"--match-params: {row} has {here:,} parameters without embeddings, {TARGET} {goal:,}; even an MLP of "
            f"width {best} leaves {100 * difference:+.1f} %: leave it out, or set model.mlp for all"
        )
    say(
        f"{row}: {here:,} parameters without embeddings, {TARGET} {goal:,}; "
        + (f"matched with model.mlp={best}" if best != width else "alike")
    )
    return best, difference


def long_listing() -> str:
    """A line per mechanism: parameters in the standard model, cost declared and counted, fidelity, source.

    Operations are those of one layer's attention, projections included, at width 64, forward, of one sequence.
    """
    from lra.bench.flops import attention_flops
    from lra.report.groups import CONTROLS

    cells = plan(Request(attentions=attention_zoo.names(), tasks=["listops"], seeds=[0]))
    counts = {cell.row: count(cell, SIZES) for cell in cells}
    rows = []
    for cell in cells:
        entry, dims = cell.attention, attention_zoo.Dims(dim=64, heads=2, length=LONG)

        def make(length: int, entry=entry, dims=dims) -> attention_zoo.Attention:
            return entry.build(replace(dims, length=length))

        operations = [f"{attention_flops(make, length, dim=64) / 1e6:,.1f}" for length in (SHORT, LONG)]
        difference = f"{100 * (counts[cell.row] / counts[TARGET] - 1):+.1f} %"
        fidelity = "control" if entry.name in CONTROLS else entry.fidelity()
        if entry.padding == "fixed":
            fidelity += ", fixed length"
        rows.append((entry.name, f"{counts[cell.row]:,}", difference, entry.cost, *operations, fidelity, entry.paper))
    widths = [max(len(line[i]) for line in (HEADER, *rows)) for i in range(len(HEADER))]
    right = {1, 2, 4, 5}
    lines = [
        "  ".join(
            word.rjust(w) if i in right else word.ljust(w) for i, (word, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in (HEADER, *rows)
    ]
    return "\n".join([*(line.rstrip() for line in lines), "", LEGEND])
