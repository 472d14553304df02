"""Bench records -> what whole runs take on each machine: the start, hours, tokens per second."""

from collections.abc import Callable, Sequence

from lra.report import conventions
from lra.report.format import DASH
from lra.report.render import markdown, matrix, table
from lra.results.bench_record import Bench
from lra.results.whole_runs import Conditions, WholeRun, whole_runs

ABOUT = (
    "Hours: all steps and evaluations of a run, by the median times of a few. Start: seconds of the first step in one "
    "process, with an empty compiler's cache (cold) and with what it then holds (warm); on a CPU a run trains "
    "eagerly meanwhile. Tokens: real ones, in training."
)


def tables(benches: Sequence[Bench]) -> list[str]:
    """Markdown, two tables for each machine and way to use it; empty where no evaluation of whole runs was timed."""
    parts = []
    for conditions, runs in whole_runs(benches).items():
        if not any(run.evaluation for run in runs):
            continue  # only training was timed, which gives no hours
        tasks = sorted(dict.fromkeys(run.task for run in runs), key=conventions.task_order)
        most = max(run.evaluation.processes for run in runs if run.evaluation)
        parts += [f"## {heading(conditions, runs, most)}\n\n{ABOUT}\n", _hours(runs, tasks)]
        where = f"in 1 process / in {most}" if most > 1 else "in 1 process"
        parts += [f"Real tokens per second, {where}\n", _filled(runs, tasks, _speeds)]
    return parts


def heading(shared: Conditions, runs: Sequence[WholeRun], processes: int) -> str:
    """Where and how the runs were timed, with the gears that ran."""
    timed = [run.shared for run in runs if run.shared]
    used = {str(bench.environment.get("gear", shared.gear)) for bench in timed}
    machine = shared.device_name
    if shared.device == "cpu":
        machine += f", {shared.cores} core{'s' * (shared.cores != 1)}"
        machine += (
            f", {processes} process{'es' * (processes != 1)} of {shared.threads} thread{'s' * (shared.threads != 1)}"
        )
    gears = " or ".join(sorted(used)) or shared.gear
    return f"Whole runs of {shared.protocol}: {gears}, {shared.precision}, {machine}"


def _hours(runs: Sequence[WholeRun], tasks: list[str]) -> str:
    by_cell = {(run.row, run.task): run for run in runs}
    body = []
    for row in dict.fromkeys(run.row for run in runs):
        started = next((run for run in runs if run.row == row and run.cold), None)
        starts = [_seconds(started.cold), _seconds(started.alone)] if started else [DASH, DASH]
        hours = [by_cell[row, task].hours if (row, task) in by_cell else None for task in tasks]
        total = None if None in hours else sum(hour for hour in hours if hour is not None)
        body.append([row, *starts, *map(_number, hours), *([_number(total)] if len(tasks) > 1 else [])])
    header = ["Attention", "Start cold, s", "Start warm, s", *(f"{conventions.task_title(task)}, h" for task in tasks)]
    return markdown(table("", [*header, *(["All, h"] if len(tasks) > 1 else [])], body))


def _filled(runs: Sequence[WholeRun], tasks: list[str], words: Callable[[WholeRun], str]) -> str:
    columns = {task: conventions.task_title(task) for task in tasks}
    return matrix("Attention", columns, {(run.row, run.task): words(run) for run in runs})


def _speeds(run: WholeRun) -> str:
    several = run.shared is not None and run.shared.processes > 1
    speeds = [bench and bench.per_second(bench.real_tokens) for bench in (run.alone, run.shared)[: 1 + several]]
    return " / ".join(DASH if speed is None else f"{speed:,.0f}" for speed in speeds)


def _seconds(bench: Bench | None) -> str:
    return DASH if bench is None or bench.start_seconds is None else f"{bench.start_seconds:,.1f}"


def _number(hours: float | None) -> str:
    return DASH if hours is None else f"{hours:,.1f}" if hours >= 10 else f"{hours:.2g}"
