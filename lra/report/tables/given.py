"""What makes rows fair to compare: sizes, convolution, precision, learning rate, tuning, fidelity, cost."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lra.report.groups import Group, fidelity
from lra.report.render import DASH, Sheet, sheet
from lra.report.tables.comparison import span
from lra.results.record import Record, budget_of

LEGEND = (
    "Parameters: all, those outside the embeddings, those of the attention modules. Taps: of the local convolution. "
    "Tuning: values tried for each mechanism on a pilot seed. Learned: runs that left the band of a constant answer. "
    "Peak GB: the most that a run held. Ranges cover runs and tasks."
)


@dataclass(frozen=True)
class Facts:
    """Of one row of a table, over its runs on all tasks. Unknown is None or an empty tuple; `*_bytes` are bytes."""

    parameters: tuple[int, ...]
    without_embeddings: tuple[int, ...]
    attention: tuple[int, ...]
    taps: int | None
    precision: str
    lr: tuple[float, ...]
    tuning: str  # "none", or how many values of which settings were tried: "3 of train.lr"
    fidelity: str  # "official", "control", or "adapted" with what was adapted
    learned: int
    finished: int
    tokens_per_second: tuple[float, ...]
    peak_bytes: tuple[int, ...]
    milliseconds: float | None  # per training step at 4,096 tokens, from a benchmark


def facts(group: Group, row: str, milliseconds: Mapping[str, float] | None = None) -> Facts:
    """milliseconds: by row, of a training step at 4,096 tokens."""
    cells = [c.cells[row] for c in group.columns if row in c.cells]
    records, done = [r for cell in cells for r in cell.records], [r for cell in cells for r in cell.done]
    about = records[0].attention
    return Facts(
        parameters=_known(r.parameters.get("total") for r in records),
        without_embeddings=_known(r.parameters.get("without_embeddings") for r in records),
        attention=_known(r.parameters.get("attention") for r in records),
        taps=(about.get("options") or {}).get("conv"),
        precision=group.precision,
        lr=_known(r.config.get("train", {}).get("lr") for r in records),
        tuning="; ".join(dict.fromkeys(tuning(r) for r in records)),
        fidelity=fidelity(records[0]),
        learned=sum(cell.learned for cell in cells),
        finished=len(done),
        tokens_per_second=_known(r.tokens_per_second for r in done),
        peak_bytes=_known(r.peak_bytes for r in done),
        milliseconds=(milliseconds or {}).get(row),
    )


def tuning(record: Record) -> str:
    """'none', or how many values of which settings were tried to choose this run's: '3 of train.lr'."""
    values: dict[str, list[Any]] = budget_of(record.tuning).get("values", {})
    return f"{math.prod(map(len, values.values()))} of {', '.join(values)}" if values else "none"


def table(group: Group, milliseconds: Mapping[str, float] | None = None) -> Sheet:
    """A line per row."""
    header = ["Attention", "Parameters", "without embeddings", "attention's own", "Taps", "Precision", "lr", "Tuning"]
    header += ["Fidelity", "Learned", "ms/step at 4K", "Peak GB"]
    body = []
    for row in group.rows:
        f = facts(group, row, milliseconds)
        line = [row, *(span(known) for known in (f.parameters, f.without_embeddings, f.attention))]
        line += [DASH if f.taps is None else str(f.taps), f.precision, span(f.lr, "{:g}"), f.tuning]
        line += [f.fidelity.partition(":")[0] or DASH, f"{f.learned} of {f.finished}" if f.finished else DASH]
        line += [DASH if f.milliseconds is None else f"{f.milliseconds:.1f}"]
        body.append([*line, span([b / 1e9 for b in f.peak_bytes], "{:.2f}")])
    return sheet("What each row was given", header, body, note=LEGEND).trimmed()


def _known(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(sorted({value for value in values if value is not None}))
