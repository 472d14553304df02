"""Settings side by side: each attention under every combination of values, with accuracy, parameters and operations.

`audit --settings model.backbone=flat,pyramid model.grid=false,true` trains under the four combinations. Each is an
ordinary run, whose record shows the combination in the name of its protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lra.experiments.data import prepare_data
from lra.experiments.grid import run_jobs
from lra.experiments.job import Job
from lra.experiments.plan import Request, distinct, plan
from lra.experiments.run import Run
from lra.experiments.sweep import read_choices
from lra.results.record import Record

if TYPE_CHECKING:
    import pandas as pd

    from lra.report.render import Table

HEADER = ("Task", "Attention", "Settings", "Accuracy", "Seeds", "Difference", "95 %",
          "Parameters, no embeddings", "MFLOP")  # fmt: skip
LEGEND = (
    "Accuracy: mean over the seeds and their standard deviation, in %. Difference: to the first setting of the same "
    "attention, in points, paired by seed, with the noise of seeds and test rows from three seeds on; none where that "
    "setting has no finished run. MFLOP: millions of operations of the forward pass of one sample of the longest "
    "length; a multiplication and an addition are two."
)


@dataclass(frozen=True)
class Line:
    """An attention on a task under one choice of values: its finished records, parameters and operations (or None)."""

    task: str
    row: str
    choice: tuple[str, ...]
    records: list[Record]
    parameters: int
    flops: float | None
    first: bool = False  # is it the choice that the others are compared with?


def run_settings(request: Request, texts: list[str]) -> tuple[list[Line], list[Job]]:
    """Runs what is missing of every combination. Returns the lines that have a finished run, and the jobs of all runs.

    Raises as `grid.run_jobs` does, and ConfigError for keys without values.
    """
    planned = planned_by_choice(request, texts)
    choices, runs = list(planned), distinct(run for its_runs in planned.values() for run in its_runs)
    jobs = run_jobs(request, runs, "all" in request.tasks, shard=request.shard)
    done = {job.run.key: job for job in jobs if job.record and job.record.test_accuracy is not None}
    lines = []
    for task, row in dict.fromkeys((run.task, run.row) for run in runs):
        for choice, its_runs in planned.items():
            its_jobs = [done[run.key] for run in its_runs if (run.task, run.row) == (task, row) and run.key in done]
            if its_jobs:
                lines.append(replace(_line(choice, its_jobs, request), first=choice == choices[0]))
    return lines, jobs


def planned_by_choice(request: Request, texts: list[str]) -> dict[tuple[str, ...], list[Run]]:
    """The runs of every combination. Raises ConfigError for keys without values, and as `plan` does."""
    choices = read_choices(texts, request.overrides, "--settings")
    return {choice: plan(replace(request, overrides=(*request.overrides, *choice))) for choice in choices}


def _line(choice: tuple[str, ...], jobs: list[Job], request: Request) -> Line:
    from lra.backbones.weights import count_parameters
    from lra.bench.flops import sample_flops
    from lra.experiments.build import make_model

    run = jobs[0].run
    spec = prepare_data(run.task, run.config, request.data_dir).spec
    model = make_model(run, spec).eval()
    records = [job.record for job in jobs if job.record]
    return Line(
        run.task,
        run.row,
        choice,
        records,
        count_parameters(model)["without_embeddings"],
        sample_flops(model, spec.length, spec.pair),
    )


def table(lines: Sequence[Line]) -> pd.DataFrame:
    """A row for each line; accuracies and differences as fractions of 1."""
    import pandas as pd

    from lra.report.cells import Cell, same_answers, split_variance
    from lra.stats.differences import paired

    first = {(line.task, line.row): line for line in lines if line.first}
    gains, noise, same = {}, {}, set()
    for number, line in enumerate(lines):
        base = first.get((line.task, line.row), line)
        with_it, without = Cell(tuple(line.records)), Cell(tuple(base.records))
        seeds = sorted(with_it.accuracies.keys() & without.accuracies.keys())
        if line is not base and seeds and same_answers(with_it, without):  # 0s would lower the noise of all lines
            same.add(number)
        elif line is not base and seeds:
            gains[str(number)] = [with_it.accuracies[seed] - without.accuracies[seed] for seed in seeds]
            noise[str(number)] = split_variance(with_it, without, seeds)
    differences = paired(gains, noise)
    rows = []
    for number, line in enumerate(lines):
        summary, difference = Cell(tuple(line.records)).summary, differences.get(str(number))
        low, high = (difference.interval if difference else None) or (None, None)
        about = {"task": line.task, "attention": line.row, "settings": " ".join(line.choice)}
        about |= {
            "accuracy": summary and summary.mean,
            "std": summary and summary.deviation,
            "seeds": len(line.records),
        }
        about |= {"difference": 0.0 if number in same else difference and difference.mean, "low": low, "high": high}
        rows.append(about | {"parameters": line.parameters, "flops": line.flops})
    return pd.DataFrame(rows)


def sheet_of(frame: pd.DataFrame) -> Table:
    """The table to print, in per cent and points."""
    from lra.report import render
    from lra.report.format import DASH, interval, points

    body = []
    for line in frame.to_dict("records"):
        spread = points(line["std"], " ± {:.1f}") if line["seeds"] > 1 else ""
        flops = DASH if line["flops"] != line["flops"] or line["flops"] is None else f"{line['flops'] / 1e6:,.1f}"
        words = [str(line[key]) for key in ("task", "attention", "settings")]
        accuracy = points(line["accuracy"], "{:.1f}") + spread
        body.append(
            [
                *words,
                accuracy,
                str(line["seeds"]),
                points(line["difference"]),
                interval(line["low"], line["high"]),
                f"{line['parameters']:,}",
                flops,
            ]
        )
    return render.table("Settings side by side", list(HEADER), body, left=3, note=LEGEND)


def document(frame: pd.DataFrame, request: Request, command: str) -> str:
    """The Markdown page: the command, and the table."""
    from lra.report.render import markdown

    return (
        f"# Settings side by side\n\nProtocol {request.protocol}.\n\n    {command}\n\n"
        f"{markdown(sheet_of(frame))}\n{LEGEND}\n"
    )
