"""The quirk audit: how much accuracy changes when one historic quirk of earlier suites is switched on.

Every quirk is a field of the configuration, so a run with a quirk is an ordinary run, whose record shows the field in
the name of its protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lra.audit.faults import QUIRKS, SUITES, Quirk, has, suites_with
from lra.errors import ConfigError
from lra.experiments.grid import run_jobs
from lra.experiments.job import Job
from lra.experiments.plan import Request, distinct, plan
from lra.experiments.run import Run
from lra.results.record import Record
from lra.stats.accuracy import FEWEST

if TYPE_CHECKING:
    import pandas as pd

    from lra.report.render import Table
    from lra.stats.differences import Difference

Key = tuple[str, str, int, str]  # task, row, seed, protocol


@dataclass(frozen=True)
class Comparison:
    """A quirk on a task: the runs without and with it, both in the same order of attentions and seeds."""

    task: str
    quirk: Quirk
    without: list[Run]
    faulty: list[Run]


def compare(request: Request) -> list[Comparison]:
    """The comparisons of the audit, one for each task and quirk; the protocol's other faults are off on both sides.

    Raises SpecError, DataError or ConfigError.
    """
    fields = {quirk.switch.partition("=")[0] for quirk in QUIRKS}
    for override in request.overrides:
        if override.partition("=")[0] in fields:
            raise ConfigError(f"--set {override}: the audit itself sets this field; leave it out")
    comparisons = []
    for task in dict.fromkeys(run.task for run in plan(request)):
        quirks = [quirk for quirk in QUIRKS if quirk.concerns(task)]
        for quirk in quirks:
            present = [other for other in quirks if not other.choice and has(request.protocol, other, task)]
            sound = [other.sound for other in quirks if other is quirk or other in present]
            without = replace(request, tasks=[task], overrides=(*request.overrides, *sound))
            faulty = replace(without, overrides=(*without.overrides, quirk.switch))
            comparisons.append(Comparison(task, quirk, plan(without), plan(faulty)))
    return comparisons


@dataclass(frozen=True)
class Effect:
    """The effect of a quirk on one attention and task. pairs: finished records of each seed, without and with it."""

    comparison: Comparison
    row: str
    pairs: list[tuple[Record, Record]]


def planned(comparisons: Sequence[Comparison]) -> list[Run]:
    """The runs of the comparisons, each once."""
    return distinct(run for c in comparisons for run in (*c.without, *c.faulty))


def run_audit(request: Request) -> tuple[list[Effect], list[Job]]:
    """Runs what is missing. Returns all effects, also those without a finished pair of runs, and the jobs of all runs.

    With the task `all`, those without data are left out. Raises as `grid.run_jobs` does.
    """
    comparisons = compare(request)
    runs = planned(comparisons)
    jobs = run_jobs(request, runs, "all" in request.tasks, shard=request.shard)
    done = {job.run.key: job.record for job in jobs if job.record and job.record.test_accuracy is not None}
    effects = [effect for comparison in comparisons for effect in effects_of(comparison, done)]
    return effects, jobs


def effects_of(comparison: Comparison, done: dict[Key, Record]) -> list[Effect]:
    """The effects of a comparison, one for each attention. done: the finished records by `Run.key`."""
    effects = []
    for row in dict.fromkeys(run.row for run in comparison.without):
        both = zip(comparison.without, comparison.faulty, strict=True)
        keys = [(without.key, faulty.key) for without, faulty in both if without.row == row]
        effects.append(Effect(comparison, row, [(done[a], done[b]) for a, b in keys if a in done and b in done]))
    return effects


def table(effects: Sequence[Effect]) -> pd.DataFrame:
    """One row per effect: accuracies, difference (with minus without), 95 % interval, all fractions of 1; verdict."""
    import pandas as pd

    from lra.report.cells import Cell, same_answers, split_variance
    from lra.stats.differences import paired

    gains, noise, same = {}, {}, set()
    for effect in effects:
        if effect.pairs:
            without, faulty = (Cell(side) for side in zip(*effect.pairs, strict=True))
            if same_answers(without, faulty):  # differences of 0 would lower the noise of all lines
                same.add(_name(effect))
                continue
            seeds = sorted(faulty.accuracies.keys() & without.accuracies.keys())
            gains[_name(effect)] = [faulty.accuracies[seed] - without.accuracies[seed] for seed in seeds]
            noise[_name(effect)] = split_variance(faulty, without, seeds, not effect.comparison.quirk.other_rows)
    differences = paired(gains, noise)
    return pd.DataFrame([_line(effect, differences.get(_name(effect)), _name(effect) in same) for effect in effects])


def _name(effect: Effect) -> str:
    return f"{effect.comparison.task} {effect.comparison.quirk.name} {effect.row}"


def _line(effect: Effect, difference: Difference | None, same: bool) -> dict[str, Any]:
    quirk = effect.comparison.quirk
    line = {"task": effect.comparison.task, "quirk": quirk.name, "switch": quirk.switch, "attention": effect.row}
    suites = "; ".join(SUITES[suite] for suite in suites_with(quirk, effect.comparison.task))
    line |= {"suites": suites, "seeds": len(effect.pairs)}
    if not effect.pairs:
        return line | {"verdict": "not measured"}
    without, faulty = (
        sum(r.test_accuracy or 0.0 for r in side) / len(side) for side in zip(*effect.pairs, strict=True)
    )
    line |= {"without": without, "with": faulty, "difference": faulty - without}
    if same or difference is None:
        rows_differ = any(before.test_rows != after.test_rows for before, after in effect.pairs)
        return line | {"verdict": "same answers" if rows_differ else "changes nothing here"}
    low, high = difference.interval or (None, None)
    line |= {"low": low, "high": high}
    line |= {"test_noise": difference.test_half_width, "p_adjusted": difference.adjusted}
    no_interval = f"{difference.count} seed{'s' * (difference.count > 1)}: no interval"
    verdict = no_interval if difference.count < FEWEST else "outside noise" if difference.separated else "inside noise"
    return line | {"verdict": verdict}


def sheet_of(frame: pd.DataFrame) -> Table:
    """The table to print, in per cent and points."""
    from lra.report import render
    from lra.report.format import interval, points

    body = []
    for line in frame.to_dict("records"):
        accuracies = [points(line.get(key), "{:.1f}") for key in ("without", "with")]
        noise = points(line.get("test_noise"), "±{:.1f}")
        names = [str(line[key]) for key in ("task", "quirk", "attention")]
        results = [
            points(line.get("difference")),
            interval(line.get("low"), line.get("high")),
            noise,
            str(line["seeds"]),
            str(line["verdict"]),
        ]
        body.append([*names, *accuracies, *results])
    header = ["Task", "Quirk", "Attention", "without", "with", "Difference", "95 %", "Test rows", "Seeds"]
    return render.table("The quirk audit", [*header, "Verdict"], body, left=3, note=LEGEND)


LEGEND = (
    "Test accuracy in %; differences in points, with the quirk minus without, paired by seed. The 95 % interval covers "
    "the noise of the seeds, whose spread is estimated from all lines, and of the test rows, whose part alone is under "
    "'Test rows'; it is not adjusted. 'Outside noise': p, adjusted over this table (Holm), is below 0.05. "
    "'Same answers': the quirk changed no answer, only which rows count. 'Changes nothing here': every answer is the "
    "same, as where no batch is short or nothing is padded. In both there is nothing to test."
)


def document(frame: pd.DataFrame, request: Request, command: str) -> str:
    """The Markdown page: what was run, the table, and which suite had which quirk on which task."""
    from lra.report.render import markdown

    suites_by_quirk = {(line["quirk"], line["task"]): line["suites"] for line in frame.to_dict("records")}
    sources = "".join(
        f"- {quirk.name} (`{quirk.switch}`, against `{quirk.sound}`), {task}: {suites or 'none of these'}\n"
        for quirk in QUIRKS
        for (name, task), suites in suites_by_quirk.items()
        if name == quirk.name
    )
    return (
        f"# The quirk audit\n\nProtocol {request.protocol}, each historic quirk switched on alone.\n\n    {command}\n\n"
        f"{markdown(sheet_of(frame))}\n{LEGEND}\n\n## Which suite had which quirk\n\n{sources}"
    )
