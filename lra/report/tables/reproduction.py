"""Published accuracies beside ours under the same protocol: difference, noise, verdict, and the command to run it."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from lra.errors import to_type
from lra.report.cells import Cell
from lra.report.format import DASH, percent, signed
from lra.report.groups import Group
from lra.report.render import Table, table
from lra.report.rows import same
from lra.report.tables import published
from lra.report.tables.published import PublishedFigure, PublishedTask, accuracies, tasks
from lra.stats.accuracy import FEWEST, Summary, binomial_half_width, t_quantile

COLUMNS = ("source", "protocol", "mechanism", "attention", "task", "published", "copy", "command", "precision", "data",
           "n", "mean", "deviation", "difference", "noise_95", "verdict", "finding")  # fmt: skip
INSTEAD = {"unpublished": "standard"}  # a source's protocol -> ours, for the command; there is no verdict
SEEDS = {"skyformer": 3}  # protocol -> seeds behind a published mean, where its paper says how many
LEGEND = (
    "Noise: half of the 95 % interval of the difference, from the seeds of both sides, as if the published runs spread "
    "like ours, and from both test splits. With fewer than three seeds of ours it comes from the test splits alone, "
    "and the only verdict it can support is 'inside noise'. Not run: our tables have no run of it. Diverged or failed: "
    "none of our runs has finished. Sizes differ: the model or the data does not have the published size, so there is "
    "no verdict. Averages are not judged. Where a protocol was not published, the command is that of ours, and there "
    "is no verdict either. Verdicts are not adjusted for how many there are."
)


def beside(groups: Sequence[Group], figures: Sequence[PublishedFigure]) -> list[dict[str, Any]]:
    """One row per published test accuracy of a task, with ours where it ran; accuracies in percent, as printed."""
    known, rows = tasks(), []
    for figure in accuracies(figures):
        for attention, fault in published.forms(figure) or [("", "")]:
            if figure["task"] != "average":
                form = figure | {
                    "attention": attention,
                    "mechanism": ", ".join(filter(None, [figure["mechanism"], fault])),
                }
                about = _about(form, known.get(figure["task"])) | {"finding": published.finding(figure, attention)}
                rows += [about | result for result in _beside(form, groups, known)]
    return rows


def matrices(rows: Sequence[dict[str, Any]]) -> list[Table]:
    """A table per protocol, with the rows whose mechanism we have and without figures copied from another source."""
    known = tasks()
    header = ("Published by", "Mechanism", "Task", "Published", "Ours", "Difference", "Noise", "Verdict", "Command")
    parts: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["attention"] and row["protocol"] != "own" and not row["copy"]:
            parts.setdefault(row["protocol"], []).append(row)
    return [
        table(
            published.in_words(protocol).capitalize(),
            header,
            [_line(row, known) for row in parts[protocol]],
            left=3,
            note="\n".join(f"- {_title(row, known)}: {row['finding']}" for row in parts[protocol] if _said(row)),
        )
        for protocol in sorted(parts)
    ]


def _said(row: dict[str, Any]) -> bool:
    """Whether the row has a finding and ran."""
    return bool(row["finding"]) and row.get("mean") is not None


def _title(row: dict[str, Any], known: dict[str, PublishedTask]) -> str:
    return f"{row['mechanism']} on {known[row['task']].title if row['task'] in known else row['task']}"


def _about(figure: PublishedFigure, task: PublishedTask | None) -> dict[str, Any]:
    names = ("source", "protocol", "mechanism", "attention", "task")
    copy = published.is_copied(figure)
    protocol = INSTEAD.get(figure["protocol"], figure["protocol"])
    comparable = figure["attention"] and protocol not in published.NOT_OURS
    runs = comparable and task is not None and task.test is not None and not copy
    cell = ("--attn", figure["attention"], "--task", figure["task"], "--protocol", protocol)
    command = to_type(*cell, "--seed", *range(max(SEEDS.get(figure["protocol"], 0), 3)))
    return {name: figure[name] for name in names} | {
        "published": float(figure["value"]),
        "copy": copy,
        "command": command if runs else "",
    }


def _beside(
    figure: PublishedFigure, groups: Sequence[Group], known: dict[str, PublishedTask]
) -> Iterator[dict[str, Any]]:
    """Our result from each table that has this cell; one line without numbers if none has."""
    if reason := published.NOT_OURS.get(figure["protocol"]) or (
        "" if figure["attention"] else "no such attention here"
    ):
        yield {"verdict": reason}
        return
    tables = [group for group in groups if group.protocol == figure["protocol"]]
    cells = [(g, c, cell) for g in tables for c in g.columns if c.task == figure["task"] for cell in c.cells.values()]
    ran = [(g, c, cell) for g, c, cell in cells if same(cell.records[0].row, figure["attention"])]
    if not ran:
        yield {"verdict": "not run"}
    for group, column, cell in ran:
        judgement = _judge(figure, known[column.task], cell) if cell.done else {"verdict": cell.records[0].status}
        yield {"precision": group.precision, "data": column.label} | judgement


def _judge(figure: PublishedFigure, task: PublishedTask, cell: Cell) -> dict[str, Any]:
    summary = cell.summary
    assert summary is not None  # the cell has finished runs
    their_accuracy = float(figure["value"]) / 100
    noise = _noise(summary, cell.test_rows, their_accuracy, task.test or 0, SEEDS.get(figure["protocol"], 1))
    gap = summary.mean - their_accuracy
    if sizes_differ(task, cell):
        verdict = "sizes differ"
    elif abs(gap) <= noise:
        verdict = "inside noise"
    else:
        verdict = "outside noise" if summary.count >= FEWEST else "too few seeds"
    return {
        "n": summary.count,
        "mean": 100 * summary.mean,
        "deviation": None if summary.deviation is None else 100 * summary.deviation,
        "difference": 100 * gap,
        "noise_95": 100 * noise,
        "verdict": verdict,
    }


def _noise(summary: Summary, rows: int, their_accuracy: float, their_rows: int, their_seeds: int) -> float:
    splits = [binomial_half_width(summary.mean, rows), binomial_half_width(their_accuracy, their_rows)]
    if summary.deviation is None or summary.count < FEWEST:
        return math.hypot(*splits)
    runs = math.sqrt(1 / summary.count + 1 / their_seeds)
    return math.hypot(t_quantile(summary.count) * summary.deviation * runs, *splits)


def sizes_differ(task: PublishedTask, cell: Cell) -> bool:
    """Whether the data has other sizes than the released data, or the protocol declares that the model has."""
    rows = [r.data.get("rows") or {} for r in cell.done]
    pairs = [(sizes.get("train"), sizes.get("test")) for sizes in rows if sizes]
    declared = any("sizes" in getattr(r, "deviations", {}) for r in cell.done)
    return declared or any(pair != (task.train, task.test) for pair in pairs)


def _line(row: dict[str, Any], known: dict[str, PublishedTask]) -> list[str]:
    title = known[row["task"]].title if row["task"] in known else row["task"]
    line = [row["source"], row["mechanism"], title, f"{row['published']:.2f}"]
    if row.get("mean") is None:
        return [*line, DASH, DASH, DASH, row["verdict"], f"`{row['command']}`" if row["command"] else DASH]
    spread = "" if row["deviation"] is None else f" ± {row['deviation']:.1f}"
    gap = signed(row["difference"] / 100, 1)
    result = f"{percent(row['mean'] / 100)}{spread} ({row['n']})"
    return [*line, result, gap, f"± {row['noise_95']:.1f}", row["verdict"], f"`{row['command']}`"]
