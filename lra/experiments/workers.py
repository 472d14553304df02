"""A grid in several processes, each with one run at a time: `--devices 0-7`, or `--jobs 2` on a CPU.

Workers are reused, so that imports and compilation are paid once. If a worker dies, its run is recorded as failed and
a new worker takes over. A device on which no worker starts is dropped.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import attention_zoo
import tasks
from lra import console
from lra.console import say
from lra.errors import BusyError, WorkError
from lra.experiments.data import TaskData, find_task, load_task_data, not_repeatable
from lra.experiments.job import Job, open_job, run_job, titles
from lra.experiments.plan import Request
from lra.experiments.run import make_record

CONTEXT = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads and CUDA's state


@dataclass(frozen=True)
class Order:
    """What a worker is sent for a run. A user's files are named, because a pickle only names what they define."""

    task_file: str  # of a user's task, or ""
    task_code: str | None  # its text in the parent
    spec: str  # of the attention
    run: bytes  # pickled
    ladder: dict[str, float]
    path: Path  # of the record
    title: str


@dataclass(frozen=True)
class Answer:
    """A worker's message when a run has ended. problem: why nothing could be written down, or ''."""

    problem: str = ""
    healthy: bool = True  # False: its GPU is lost to this process, which ends


@dataclass
class Worker:
    """A process on one device, and the job it has. ready: it has said that it can compute."""

    device: str
    process: Any
    pipe: Any
    job: Job | None = None
    ready: bool = False


def run_in_workers(jobs: list[Job], prepared: dict[str, TaskData], request: Request) -> None:
    """Runs every job, one at a time on each of the request's devices.

    prepared: data by `Run.data_key`. Raises WorkError when no worker starts, or the record of a run cannot be written.
    """
    import torch

    devices = request.worker_devices
    settings = max(1, torch.get_num_threads() // len(devices)), request.data_dir, request.track
    title_of = {id(job): title for job, title in zip(jobs, titles(jobs), strict=True)}
    left, problems, workers = list(reversed(jobs)), [], []
    try:
        for device in devices[: len(jobs)]:
            workers.append(start(device, *settings))
        while left or any(worker.job for worker in workers):
            for number, worker in enumerate(workers):
                if left and worker.job is None:
                    if not worker.process.is_alive():
                        workers[number] = worker = start(worker.device, *settings)
                    job = left.pop()
                    send(worker, job, prepared[job.run.data_key], title_of[id(job)])
            busy = [worker for worker in workers if worker.job]
            wait([thing for worker in busy for thing in (worker.pipe, worker.process.sentinel)])
            for worker in busy:
                problem = receive(worker, prepared)
                if problem is None:
                    left.append(drop_device(worker, workers))
                elif problem:
                    problems.append(problem)
    finally:
        stop(workers)
    if problems:
        raise WorkError(problems[0])


def start(device: str, *settings: Any) -> Worker:
    """Starts a worker. settings: threads, data_dir and track, as `work_loop` takes them."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=work_loop, args=(theirs, device, *settings), daemon=True)
    process.start()
    theirs.close()
    return Worker(device, process, ours)


def drop_device(worker: Worker, workers: list[Worker]) -> Job:
    """Removes a worker that could not start, and returns its job for the others. Raises WorkError for the last one."""
    workers.remove(worker)
    worker.pipe.close()
    worker.process.join()
    assert worker.job is not None
    problem = f"no process can start on {worker.device} (exit code {worker.process.exitcode})"
    if not workers:
        raise WorkError(f"{problem}: see its message above")
    say(f"{problem}: the others go on without it")
    return worker.job


def send(worker: Worker, job: Job, prepared: TaskData, title: str) -> None:
    """Gives a job to a worker that has none."""
    run = job.run
    file = tasks.file_of(run.task)
    title += f" on {worker.device}" if worker.device.startswith("cuda:") else ""
    order = Order(
        str(file) if file else "",
        tasks.code_of(run.task),
        run.spec,
        pickle.dumps(run),
        prepared.ladder,
        job.path,
        title,
    )
    worker.job = job
    with contextlib.suppress(OSError):  # the worker has died; `receive` will notice
        worker.pipe.send(order)


def receive(worker: Worker, prepared: dict[str, TaskData]) -> str | None:
    """Reads what the worker says; when its run has ended, reads the record and returns a problem, or ''.

    None: the worker died before it was ready, so the run is not to blame.
    """
    job, answer = worker.job, Answer()
    assert job is not None
    try:
        if not worker.pipe.poll():
            if worker.process.is_alive():
                return ""
            raise EOFError
        if not worker.ready:
            worker.ready = worker.pipe.recv()
            return ""
        answer = worker.pipe.recv()
        if not answer.healthy:
            worker.process.join()
    except (EOFError, OSError):
        if not worker.ready:
            return None
        worker.process.join()
        record_death(job, prepared[job.run.data_key], worker.process.exitcode)
    worker.job, job.record = None, job.read()
    return answer.problem


def record_death(job: Job, prepared: TaskData, code: int | None) -> None:
    """Writes the record of a run whose process has died."""
    how = f"by signal {signal.Signals(-code).name}" if code and code < 0 else f"with exit code {code}"
    if code == -signal.SIGKILL:
        how += " (out of memory?)"
    reason = f"its process ended {how}; the same command goes on from the last checkpoint"
    say(f"{job.run.task} {job.run.row} seed {job.run.seed}: failed: {reason}")
    with contextlib.suppress(BusyError), job.folder.lock():
        job.record = make_record(job.run, prepared.data, status="failed", reason=reason, ladder=prepared.ladder)
        job.keep()


def stop(workers: list[Worker]) -> None:
    """Ends the idle workers by closing their pipes, and the others at once: a run goes on from its last checkpoint."""
    for worker in workers:
        worker.pipe.close()
        if worker.job is not None:
            worker.process.terminate()
    for worker in workers:
        worker.process.join()


def work_loop(pipe: Connection, device_name: str, threads: int, data_dir: Path | None, track: str) -> None:
    """The worker: says that it is ready, then runs what comes through the pipe until the pipe is closed.

    It answers each run, and ends when its GPU is lost to it.
    """
    import torch

    from lra.training.device import choose_device, lost
    from lra.training.distributed import alone

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which then stops its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    console.lines_only()
    device = choose_device(device_name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(threads)
    known: dict[str, TaskData] = {}
    pipe.send(True)
    healthy = True
    while healthy:
        try:
            order = pipe.recv()
        except EOFError:
            return
        problem = ""
        try:
            job, prepared = receive_order(order, data_dir, track, known)
            run_job(job, prepared, alone(device), order.title)
        except Exception as error:
            problem = " ".join(f"{type(error).__name__}: {error}".split())
        healthy = not lost(device)
        pipe.send(Answer(problem, healthy))


def receive_order(order: Order, data_dir: Path | None, track: str, known: dict[str, TaskData]) -> tuple[Job, TaskData]:
    """The job of an order and its data. known: the data of earlier orders. Raises WorkError when something changed."""
    if order.task_file:
        find_task(order.task_file, silent=True)  # the parent has said it
    entry, _ = attention_zoo.find(order.spec)
    run = pickle.loads(order.run)
    if entry.source_hash != run.attention.source_hash:
        raise WorkError(f"{entry.path} has changed since the command started; start it again")
    if run.data_key not in known:
        known[run.data_key] = TaskData(load_task_data(run.task, run.config, data_dir).data, order.ladder)
    prepared = known[run.data_key]
    job = open_job(run, prepared.data.hash, order.path.parent, track)
    if job.path != order.path:
        if order.task_file and tasks.code_of(run.task) == order.task_code:
            raise WorkError(not_repeatable(run.task))
        raise WorkError(f"the data of {run.task} has changed since the command started; start it again")
    return job, prepared


def _end_with_parent() -> None:
    """Ends the worker when its parent was killed and could not stop it, so that it does not go on unseen."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
