"""Engines execute the runs of a grid. `lra.experiments.grid` chooses the engine and handles how each run ends.

An engine gets all runs at once, because the best place for a run depends on the others: on a CPU several processes
share a run when no other run is left for them.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lra import signals
from lra.console import say
from lra.errors import BusyError, WorkError
from lra.experiments.board import Board
from lra.experiments.data import TaskData
from lra.experiments.job import Job, run_job
from lra.experiments.run import make_record
from lra.results.files import encoded

if TYPE_CHECKING:
    from lra.training.distributed import Group
    from lra.training.progress import Progress


@dataclass(frozen=True)
class Ending:
    """A job that an engine is done with: its record is on disk, another process does it, or the fields say what failed.

    failure: what ended its processes before they could write a record, with a traceback where there is one. problem:
    why nothing could be written.
    """

    job: Job
    failure: str = ""
    traceback: str = ""
    problem: str = ""


class Engine(Protocol):
    """What a grid needs of an engine."""

    def run(self, jobs: list[Job], board: Board) -> Generator[Ending, None, None]:
        """Runs the jobs, reports their progress to the board, and yields an Ending for each when it ends.

        After a signal it saves every run and returns; a job that was under way need not get an Ending then. When the
        generator is closed, nothing is left running. Raises WorkError where no job can be done any more.
        """
        ...


class InProcess:
    """The engine that runs one job after the other in this process, or in the processes that torchrun started."""

    def __init__(self, prepared: dict[str, TaskData], group: Group, observe: Callable[[Progress], None] | None = None):
        self.prepared, self.group, self.observe = prepared, group, observe

    def run(self, jobs: list[Job], board: Board) -> Generator[Ending, None, None]:  # noqa: ARG002 - each run has a bar of its own
        from lra.training.device import lost

        for job in jobs:
            run_job(job, self.prepared[job.run.data_key], self.group, self.observe)
            yield Ending(job)
            if self.group.any(signals.asked()):
                return
            if lost(self.group.device):
                device = self.group.device
                raise WorkError(
                    f"this process cannot use {device} any more after {job.title}: start the same command again"
                )


def write_failure(ending: Ending, prepared: TaskData) -> None:
    """Writes the record of a run whose processes have ended without one, unless another process works on it."""
    job, message = ending.job, ending.failure
    if ending.traceback:
        with contextlib.suppress(OSError):  # a full disk may be what failed
            job.folder.error.write_bytes(encoded(ending.traceback))
        message += f" (traceback in {job.folder.error})"
    say(f"{job.title}: failed: {message}")
    with contextlib.suppress(BusyError), job.folder.lock():
        job.record = make_record(job.run, prepared.data, status="failed", reason=ending.failure, ladder=prepared.ladder)
        job.keep()


def ending_in_words(code: int) -> str:
    """Describes the exit code of a process that failed."""
    if code >= 0:
        return f"with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # a real-time signal, or one of another system
        name = str(-code)
    return f"by signal {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
