"""`--match-params`: adds to each row a second one whose MLPs give it as many parameters as softmax has.

All counts leave out the embeddings (tokens and positions), which are the same for every attention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import attention_zoo
import tasks
from lra.config.resolve import config_hash
from lra.console import say
from lra.errors import ConfigError
from lra.experiments.data import TaskData
from lra.experiments.run import Run

TARGET = "softmax"  # the attention whose number of parameters the others match
TOLERANCE = 0.01  # relative difference that may be left


def count(run: Run, spec: tasks.Spec) -> int:
    """Parameters of a run's model without embeddings. Raises SpecError or ConfigError."""
    from lra.backbones.weights import count_parameters  # imports torch
    from lra.experiments.build import make_model

    return count_parameters(make_model(run, spec))["without_embeddings"]


def with_mlp(run: Run, width: int) -> Run:
    """The same run with another hidden width of the MLPs."""
    return replace(run, config=replace(run.config, model=replace(run.config.model, mlp=width)))


def match(runs: list[Run], prepared: dict[str, TaskData]) -> list[Run]:
    """The runs, each followed by a run with softmax's number of parameters, `pola (matched)`, if it needs another MLP.

    prepared: data by `Run.data_key`; a run without data gets no second one. Raises ConfigError where no width of the
    MLPs comes within 1 %.
    """
    target, options = attention_zoo.find(TARGET)
    widths: dict[tuple[str, str, str], tuple[int, float]] = {}
    matched = []
    for run in runs:
        matched.append(run)
        if run.data_key not in prepared:
            continue
        spec, key = prepared[run.data_key].data.spec, (run.data_key, run.row, config_hash(run.config))
        if key not in widths:
            goal = count(replace(run, attention=target, options=options), spec)
            widths[key] = matched_width(
                run.row, run.config.model.mlp, goal, lambda width, run=run, spec=spec: count(with_mlp(run, width), spec)
            )
        width, difference = widths[key]
        if width != run.config.model.mlp:
            about = {
                "to": TARGET,
                "mlp": width,
                "protocol_mlp": run.config.model.mlp,
                "difference": round(difference, 5),
                "config_hash": config_hash(run.config),
            }
            matched.append(replace(with_mlp(run, width), row=f"{run.row} (matched)", matched=about))
    return matched


def matched_width(row: str, width: int, goal: int, count_at: Callable[[int], int]) -> tuple[int, float]:
    """The hidden width of the MLPs at which `count_at` comes nearest to the goal, and the relative difference left.

    The count is linear in the width. Raises ConfigError when the difference stays above 1 %, or no width helps.
    """
    here = count_at(width)
    slope = count_at(width + 1) - here
    if not slope:
        raise ConfigError(f"--match-params: in this backbone model.mlp does not change the size of {row}: leave it out")
    best = max(1, width + round((goal - here) / slope))
    difference = count_at(best) / goal - 1
    if abs(difference) > TOLERANCE:
        raise ConfigError(
            f"--match-params: {row} has {here:,} parameters without embeddings, {TARGET} {goal:,}; even an MLP of "
            f"width {best} leaves {100 * difference:+.1f} %: leave it out, or set model.mlp for all"
        )
    say(
        f"{row}: {here:,} parameters without embeddings, {TARGET} {goal:,}; "
        + (f"matched with model.mlp={best}" if best != width else f"no width is nearer: {100 * difference:+.2f} %")
    )
    return best, difference
