"""The engine that runs jobs in workers: processes, one for each core of a CPU, or one on each GPU of `--devices 0-7`.

This process hands out the runs and computes nothing. Workers (`worker`) are reused, so that imports and compilation are
paid once. Several workers that share a run are a team. If a worker dies, its run is recorded as failed and a new worker
takes its place. A device on which no worker starts is dropped.

When a worker is free and no run is left for it, a long run that has one process is paused and continues in several,
which changes none of its numbers. After a signal the workers save every run, and the command stops.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Generator
from dataclasses import replace
from multiprocessing.connection import wait

from lra import signals
from lra.console import say
from lra.errors import WorkError
from lra.experiments.board import Board
from lra.experiments.data import TaskData
from lra.experiments.engine import Ending
from lra.experiments.job import Job
from lra.experiments.local.crew import CAN_SHARE, Crew, is_long
from lra.experiments.local.team import Team, Worker, ending_of, send, start
from lra.experiments.local.worker import PAUSE, STOP, WorkerSettings
from lra.experiments.plan import Request, parse_devices

WORTH_A_PAUSE = 60.0  # seconds that a run must have left to be paused and continue in more processes
LOOK_AGAIN = 10.0  # seconds between looks for cores that other programs have freed
ATTENTIVE = 0.5  # seconds within which a signal is noticed
GRACE = 2.0  # seconds to wait for the death of a worker that explains why the others of its team failed


class Workers:
    """The engine that runs jobs in processes of this machine. prepared: data by `Run.data_key`."""

    def __init__(self, prepared: dict[str, TaskData], request: Request, crew: Crew):
        self.prepared, self.request, self.crew = prepared, request, crew

    def run(self, jobs: list[Job], board: Board) -> Generator[Ending, None, None]:
        """See `Engine`. Raises WorkError when no worker starts."""
        from lra.training.distributed import open_store

        request, crew = self.request, self.crew
        devices = [request.device] * crew.workers
        if request.devices:
            devices = parse_devices(request.devices)[: len(jobs)]
            crew = Crew(len(devices), len(devices), 1)
        store = open_store() if CAN_SHARE else None  # lives as long as the workers do
        settings = WorkerSettings(request.data_dir, request.track, store.port if store else 0, WORTH_A_PAUSE)
        pool = WorkerPool(jobs, self.prepared, crew, settings, board)
        try:
            with signals.held():
                pool.workers += [start(device, settings) for device in devices]
                yield from pool.run()
        finally:
            pool.close()


class WorkerPool:
    """The jobs that wait, the workers, and the teams that have a job."""

    def __init__(
        self, jobs: list[Job], prepared: dict[str, TaskData], crew: Crew, settings: WorkerSettings, board: Board
    ):
        self.prepared, self.crew, self.settings, self.board = prepared, crew, settings, board
        self.left = list(jobs)
        self.workers: list[Worker] = []
        self.teams: list[Team] = []
        self.number = 0  # of teams started so far
        self.allowed = crew.now or crew.workers  # workers that may compute
        self.looked = time.monotonic()  # when free cores were last counted
        self.stopping = False

    def run(self) -> Generator[Ending, None, None]:
        """Runs every job. After a signal it returns as soon as no job is under way."""
        while self.teams or (self.left and not self.stopping):
            if not self.stopping:
                self.hand_out()
            self.wait()
            for team in list(self.teams):
                yield from self.attend(team)
            if signals.asked() and not self.stopping:
                self.stop()

    def stop(self) -> None:
        """Asks the teams to save their runs. One with a worker that is not ready has nothing to save and is dropped."""
        self.stopping = True
        for team in list(self.teams):
            if all(worker.ready for worker in team.workers):
                self.tell(team, STOP)
            else:
                self.teams.remove(team)

    @staticmethod
    def tell(team: Team, word: str) -> None:
        """Sends a word to the workers of a team."""
        for worker in team.workers:
            with contextlib.suppress(OSError):  # the worker has died, which `listen` will notice
                worker.pipe.send(word)

    def wait(self) -> None:
        """Waits ATTENTIVE seconds for a message or a death. If workers are held back, counts the free cores anew."""
        waitables = [waitable for team in self.teams for waitable in team.waitables()]
        wait(waitables, ATTENTIVE)
        if self.allowed < self.crew.workers and time.monotonic() - self.looked > LOOK_AGAIN:
            from lra.training.cores import affinity, busy_cores

            self.looked = time.monotonic()
            busy = sum(worker.busy for worker in self.workers)
            others = max(0, round(busy_cores(affinity()) - busy))
            self.allowed = max(busy, self.crew.workers - others)

    def free(self) -> list[Worker]:
        """The idle workers that may start a run, as far as `allowed` goes."""
        idle = [worker for worker in self.workers if not worker.busy]
        return idle[: max(0, self.allowed - (len(self.workers) - len(idle)))]

    def hand_out(self) -> None:
        """Gives each of the next jobs as many free workers as the crew says; pauses runs for workers that stay free."""
        while self.left:
            free = self.free()
            job = self.left[0]
            size = self.crew.size(len(free), len(self.left), len(self.teams), self.is_long(job))
            if size == 0:
                return
            del self.left[0]
            self.begin(job, free[:size])
        self.pause_for(len(self.free()))

    def begin(self, job: Job, workers: list[Worker]) -> None:
        """Starts a job on a team of these workers, after replacing dead ones."""
        self.number += 1
        workers = [worker if worker.process.is_alive() else self.replace(worker) for worker in workers]
        team = Team(job, workers, functools.partial(self.board.hear, job.title))
        for rank, worker in enumerate(workers):
            send(worker, team, self.prepared[job.run.data_key], rank, f"team {self.number}", self.board.shown)
        self.teams.append(team)

    def replace(self, worker: Worker) -> Worker:
        """Starts a worker in the place of a dead one."""
        worker.pipe.close()
        new = start(worker.device, self.settings)
        self.workers[self.workers.index(worker)] = new
        return new

    def pause_for(self, free: int) -> None:
        """Asks at most `free` long runs with one process to pause; none if the crew fixes the processes of a run."""
        alone = [team for team in self.teams if len(team.workers) == 1 and not team.asked and self.is_long(team.job)]
        for team in alone[: 0 if self.crew.each else free]:
            team.asked = True
            self.tell(team, PAUSE)

    def is_long(self, job: Job) -> bool:
        return is_long(job.run, self.prepared[job.run.data_key])

    def attend(self, team: Team) -> Generator[Ending, None, None]:
        """Ends a team when all its workers have ended their parts, or one of them has failed."""
        team.listen()
        deadline = time.monotonic() + GRACE
        while team.failed and team.death is None and team.waitables() and time.monotonic() < deadline:
            wait(team.waitables(), timeout=max(0.0, deadline - time.monotonic()))
            team.listen()
        if team.failed or not team.waitables():
            yield from self.end(team)

    def end(self, team: Team) -> Generator[Ending, None, None]:
        """Ends a team. Its job has ended, or waits again, to continue in another team."""
        self.teams.remove(team)
        for worker in [worker for worker in team.workers if worker.busy]:  # busy workers wait for the one that failed
            worker.process.kill()
            worker.process.join()
            worker.busy = False
        if team.stillborn is not None:
            self.drop(team.stillborn)
        if team.stillborn is not None or any(answer.paused for answer in team.answers):
            self.left.insert(0, team.job)
        else:
            yield ending_of(team)

    def drop(self, worker: Worker) -> None:
        """Removes a worker that could not start. Raises WorkError for the last one."""
        self.workers.remove(worker)
        worker.pipe.close()
        problem = f"no process can start on {worker.device} (exit code {worker.process.exitcode})"
        if not self.workers:
            raise WorkError(f"{problem}: see its message above")
        say(f"{problem}: the others go on without it")
        self.crew = replace(self.crew, each=min(self.crew.each, len(self.workers)))  # else a run would wait for more

    def close(self) -> None:
        """Ends idle workers by closing their pipes, and kills busy ones; a run continues from its checkpoint."""
        for worker in self.workers:
            if worker.busy:
                worker.process.kill()
            worker.pipe.close()
        for worker in self.workers:
            worker.process.join()
