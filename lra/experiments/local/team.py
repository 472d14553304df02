"""A team: the workers that share a run, as their parent (`workers`) sees them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import tasks
from lra.experiments.data import TaskData
from lra.experiments.engine import Ending, ending_in_words
from lra.experiments.job import Job
from lra.experiments.local.worker import Answer, Order, WorkerSettings, work_loop
from lra.experiments.packed import PackedRun
from lra.experiments.spawn import CONTEXT

GOES_ON = "the same command goes on from the last checkpoint"


@dataclass
class Worker:
    """A process on one device. ready: it has reported that it can compute. busy: it has a part of a run."""

    device: str
    process: Any
    pipe: Any
    ready: bool = False
    busy: bool = False


@dataclass
class Team:
    """The workers that share a run, process 0 first, and what they have reported so far.

    on_message: called with each message that is to be printed or drawn. death: the exit code of a worker that has died.
    stillborn: a worker that could not start. asked: the team has been asked to pause.
    """

    job: Job
    workers: list[Worker]
    on_message: Callable[[dict[str, Any]], None]
    answers: list[Answer] = field(default_factory=list)
    death: int | None = None
    stillborn: Worker | None = None
    asked: bool = False

    @property
    def failed(self) -> bool:
        return self.death is not None or self.stillborn is not None or any(answer.failure for answer in self.answers)

    def waitables(self) -> list[Any]:
        """The pipes and process sentinels of the busy workers, for `multiprocessing.connection.wait`."""
        return [w for worker in self.workers if worker.busy for w in (worker.pipe, worker.process.sentinel)]

    def listen(self) -> None:
        """Receives a message of each busy worker that has sent one, and notes which workers have died."""
        for worker in [worker for worker in self.workers if worker.busy]:
            try:
                if worker.pipe.poll():
                    self.hear(worker, worker.pipe.recv())
                elif not worker.process.is_alive() and not worker.pipe.poll():
                    raise EOFError
            except (EOFError, OSError):
                worker.process.join()
                worker.busy = False
                if worker.ready:
                    self.death = worker.process.exitcode
                else:
                    self.stillborn = worker

    def hear(self, worker: Worker, message: bool | Answer | dict[str, Any]) -> None:
        """Handles a message of a worker: something to print, its answer, or True, when it can compute."""
        if isinstance(message, dict):
            self.on_message(message)
        elif isinstance(message, Answer):
            self.answers.append(message)
            worker.busy = False
            if not message.healthy:
                worker.process.join()
        else:
            worker.ready = message


def start(device: str, settings: WorkerSettings) -> Worker:
    """Starts a worker for a device in a process of its own."""
    pipe, child_end = CONTEXT.Pipe()
    process = CONTEXT.Process(target=work_loop, args=(child_end, device, settings))
    process.start()
    child_end.close()
    return Worker(device, process, pipe)


def send(worker: Worker, team: Team, prepared: TaskData, rank: int, name: str, bars: bool) -> None:
    """Gives a worker its part of a team's job."""
    run = team.job.run
    order = Order(
        run=PackedRun.of(run),
        task_code=tasks.code_of(run.task),
        ladder=prepared.ladder,
        path=team.job.path,
        title=team.job.title + (f" on {worker.device}" if worker.device.startswith("cuda:") else ""),
        rank=rank,
        size=len(team.workers),
        team=name,
        bars=bars,
    )
    worker.busy = True
    with contextlib.suppress(OSError):  # the worker has died, which `listen` will notice
        worker.pipe.send(order)


def ending_of(team: Team) -> Ending:
    """How the run of a team has ended."""
    problem = next((answer.problem for answer in team.answers if answer.problem), "")
    if team.death is not None:
        return Ending(team.job, problem=problem, failure=f"its process ended {ending_in_words(team.death)}; {GOES_ON}")
    answer = next((answer for answer in team.answers if answer.failure), Answer())
    return Ending(team.job, problem=problem, failure=answer.failure, traceback=answer.traceback)
