"""A worker: a process that does its part of one run after the other, as its parent (`workers`) orders."""

from __future__ import annotations

import contextlib
import io
import threading
import traceback
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import tasks
from lra import console, signals
from lra.errors import WorkError, in_one_line
from lra.experiments.data import TaskData, not_repeatable, prepare_data
from lra.experiments.job import Job, open_job, run_job
from lra.experiments.packed import PackedRun
from lra.experiments.spawn import follow_parent
from lra.results.checkout import commit
from lra.training.progress import Bar, Progress

if TYPE_CHECKING:
    import torch


PAUSE, STOP = "pause", "stop"  # from the parent: save the run, to continue it in more processes or to stop


@dataclass(frozen=True)
class WorkerSettings:
    """What every worker is started with.

    port: of the store where the workers of a team meet; 0 where no run is shared. worth_a_pause: seconds of a run that
    must be left for it to pause and go on in more processes.
    """

    data_dir: Path | None
    track: str
    port: int
    worth_a_pause: float


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a worker is sent for a run.

    rank, size: this worker's place in its team. team: a name that no other team has.
    """

    run: PackedRun
    task_code: str | None  # the text of a user's task in the parent
    ladder: dict[str, float]
    path: Path  # of the record
    title: str
    rank: int = 0
    size: int = 1
    team: str = ""
    bars: bool = False  # does the parent draw the progress of the run?


@dataclass(frozen=True)
class Answer:
    """A worker's message when it has ended its part of a run. Until then it sends what the parent is to print.

    problem: why no record could be written. failure, traceback: the exception in a team; the parent then writes the
    record. paused: the run has stopped at a checkpoint, to continue from there. healthy: False when this process ends,
    because its GPU is lost to it, or because of a signal.
    """

    problem: str = ""
    failure: str = ""
    traceback: str = ""
    paused: bool = False
    healthy: bool = True


def work_loop(pipe: Connection, device_name: str, settings: WorkerSettings) -> None:
    """Runs a worker: it reports that it is ready, then carries out the orders from the pipe until the pipe is closed.

    It answers each order, and ends when its GPU is lost to it, or after a signal if it has the run alone. It leaves a
    team only when the parent sends its next message, because the others would take a closed connection for a failure.
    """
    follow_parent()
    with signals.caught(hint=b""), signals.held():
        work_through(pipe, device_name, settings)


def work_through(pipe: Connection, device_name: str, settings: WorkerSettings) -> None:
    """See `work_loop`."""
    import torch

    from lra.training.cores import threads_per_process
    from lra.training.device import choose_device, lost

    commit()
    console.show(bars=False, lines=True)
    device = choose_device(device_name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(threads_per_process())
    known: dict[str, TaskData] = {}
    healthy, one_at_a_time = True, threading.Lock()

    def send(message: object) -> None:
        with one_at_a_time, contextlib.suppress(OSError):  # the parent has ended, and so will this process
            pipe.send(message)

    send(True)
    while healthy:
        with contextlib.ExitStack() as team:
            try:
                order = next_order(pipe)
            except (EOFError, OSError):  # OSError: the parent has closed the pipe with messages unread
                return
            signals.forget()
            console.relay(send, order.bars)
            answer = work(order, pipe, device, settings, known, team)
            healthy = not lost(device) and (order.size > 1 or not signals.asked())
            send(answer if healthy else replace(answer, healthy=False))
            if healthy:
                with contextlib.suppress(OSError):
                    pipe.poll(None)


def next_order(pipe: Connection) -> Order:
    """The next order. Raises EOFError or OSError when the pipe is closed."""
    order = pipe.recv()
    while not isinstance(order, Order):  # PAUSE or STOP that came too late
        order = pipe.recv()
    return order


def work(
    order: Order,
    pipe: Connection,
    device: torch.device,
    settings: WorkerSettings,
    known: dict[str, TaskData],
    team: contextlib.ExitStack,
) -> Answer:
    """Does this worker's part of a run. known: data of earlier orders. team: closed by the caller to leave it."""
    from lra.training.distributed import alone, together

    console.show(bars=False, lines=order.rank == 0)
    if order.rank:
        team.enter_context(contextlib.redirect_stdout(io.StringIO()))
    try:
        job, prepared = receive(order, settings, known)
        group = alone(device)
        if order.size > 1:
            group = team.enter_context(together(settings.port, order.team, order.rank, order.size))
        requests: list[str] = []

        def pause(progress: Progress, bar: Bar) -> bool:
            while pipe.poll():
                requests.append(pipe.recv())
            if STOP in requests:
                signals.ask()
            left, speed = bar.forecast(progress)
            if not requests or not speed:
                return False
            requests.clear()
            return left > settings.worth_a_pause

        run_job(job, prepared, group, pause=pause, raises=order.size > 1)
    except Exception as error:
        reason = in_one_line(error)
        if order.size > 1:
            return Answer(failure=reason, traceback=traceback.format_exc())
        return Answer(problem=reason)
    return Answer(paused=job.paused)


def receive(order: Order, settings: WorkerSettings, known: dict[str, TaskData]) -> tuple[Job, TaskData]:
    """The job of an order and its data. Raises WorkError when something has changed since the command started."""
    run = order.run.unpack()
    if run.data_key not in known:
        known[run.data_key] = TaskData(prepare_data(run.task, run.config, settings.data_dir), order.ladder)
    prepared = known[run.data_key]
    job = open_job(run, prepared.data.hash, order.path.parent, settings.track)
    if job.path != order.path:
        if order.run.task_file and tasks.code_of(run.task) == order.task_code:
            raise WorkError(not_repeatable(run.task))
        raise WorkError(f"the data of {run.task} has changed since the command started; start it again")
    job.title = order.title
    return job, prepared
