"""see which runs of a folder are done, running where, resumable, failed or missing, and what is left"""

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lra.commands.choice import add_runs
from lra.commands.output import aligned

if TYPE_CHECKING:
    from lra.experiments.status import RunStatus

HEADER = ("state", "task", "attention", "protocol", "seed", "step", "left", "where, why")
STOPPED = "goes on from its checkpoint"


def add(parser: argparse.ArgumentParser) -> None:
    add_runs(
        parser, "default results/runs; silent: on another machine, without a heartbeat; resumable: has a checkpoint"
    )


def main(parsed: argparse.Namespace) -> int:
    from lra.console import say
    from lra.errors import RecordError
    from lra.experiments.status import read_statuses

    bad = 0
    for out in parsed.runs:
        if not out.is_dir():
            raise RecordError(f"{out}: no such folder; name the folder of the records (--out of the run)")
        statuses, problems = read_statuses(out)
        print(f"{out}\n{listing(statuses)}" if len(parsed.runs) > 1 else listing(statuses))
        for problem in problems:
            say(problem)
        bad += len(problems)
    return int(bad > 0)


def listing(statuses: Sequence["RunStatus"]) -> str:
    """A line for each run, and a summary. Runs that differ only in code or data are marked with their identity."""
    names = Counter(status.title for status in statuses)
    marks = [f" ({status.identity})" if names[status.title] > 1 else "" for status in statuses]
    right = {HEADER.index(name) for name in ("seed", "step", "left")}
    shown = aligned([HEADER, *(line_of(status, mark) for status, mark in zip(statuses, marks, strict=True))], right)
    return "\n".join([*(shown if statuses else []), summary(statuses)])


def line_of(status: "RunStatus", mark: str) -> tuple[str, ...]:
    from lra.console import clock

    step = f"{status.step:,} of {status.steps:,}" if status.steps else f"{status.step:,}" if status.step else ""
    if status.phase:
        step = f"{status.phase} {status.step:,}"
    words = [status.reason, STOPPED if status.state == "resumable" else ""]
    if status.holder is not None:
        import time

        words = [f"{status.holder}, for {clock(time.time() - status.holder.since)}"]
        words += [f"no heartbeat for {clock(status.sign)}"] if status.state == "silent" else []
    left = clock(status.left) if status.left else ""
    about = (status.task, status.row + mark, status.protocol, str(status.seed))
    return status.state, *about, step if status.state != "missing" else "", left, "; ".join(filter(None, words))


def summary(statuses: Sequence["RunStatus"]) -> str:
    """'12 runs: 1 running, 3 missing, 8 done; about 2 h 10 min left, 1 at a time'."""
    from lra.console import clock
    from lra.experiments.status import ORDER
    from lra.results.record import FINAL

    counts = Counter(status.state for status in statuses)
    words = "1 run: " if len(statuses) == 1 else f"{len(statuses)} runs" + (": " if statuses else "")
    words += ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])
    unfinished = [status for status in statuses if status.state not in FINAL]
    known = [status.left for status in unfinished if status.left is not None]
    at_once = max(1, counts["running"])
    if known:
        words += f"; about {clock(max(sum(known) / at_once, max(known)))} left, {at_once} at a time"
    if unknown := len(unfinished) - len(known):
        words += (
            f"; {unknown} of {len(unfinished)} without an estimate: no run of the same task and protocol has ended here"
        )
    return words
