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
from lra.experiments.run import Cell, make_model

TARGET = "softmax"  # whose number the others are brought to
TOLERANCE = 0.01


def count(cell: Cell, spec: tasks.Spec) -> int:
    """Parameters of a cell's model without embeddings. Raises SpecError or ConfigError."""
    from lra.backbones.weights import count_parameters

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
