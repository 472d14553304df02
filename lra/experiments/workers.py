"""A grid in several processes, one cell at a time in each: `--devices 0-7`, or `--jobs 2` on a CPU.

A worker lives for many cells, so that imports and compiled code are paid for once. One that dies takes its cell with
it: this cell's record says `failed` and why, another worker takes the next. A device on which none can start is left.
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
from lra.experiments.data import Ready, make_ready
from lra.experiments.job import Slot, fill, find_slot, titles
from lra.experiments.run import describe

CONTEXT = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads and CUDA's state


@dataclass
class Worker:
    """A process on one device, and the slot it is at. ready: has it said that it can compute?"""

    place: str
    process: Any
    pipe: Any
    slot: Slot | None = None
    ready: bool = False


def fill_all(
    slots: list[Slot], ready: dict[str, Ready], places: list[str], data_dir: Path | None = None, track: str = ""
) -> None:
    """Runs every slot's cell, each place one at a time. Raises WorkError when a cell could not be written down.

    places: a device for each process. ready: data by `Cell.data_key`, prepared.
    """
    import torch

    settings = max(1, torch.get_num_threads() // len(places)), data_dir, track
    names = {id(slot): title for slot, title in zip(slots, titles(slots), strict=True)}
    left, problems, workers = list(reversed(slots)), [], []
    try:
        for place in places[: len(slots)]:
            workers.append(start(place, *settings))
        while left or any(worker.slot for worker in workers):
            for number, worker in enumerate(workers):
                if left and worker.slot is None:
                    if not worker.process.is_alive():
                        workers[number] = worker = start(worker.place, *settings)
                    hand(worker, left.pop(), ready, names)
            wait([thing for worker in workers if worker.slot for thing in (worker.pipe, worker.process.sentinel)])
            for worker in [worker for worker in workers if worker.slot]:
                problem = listen(worker, ready)
                if problem is None:
                    left.append(give_up(worker, workers))
                elif problem:
                    problems.append(problem)
    finally:
        stop(workers)
    if problems:
        raise WorkError(problems[0])


def start(place: str, *settings: Any) -> Worker:
    """settings: threads, data_dir and track, as `serve` takes them."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=serve, args=(theirs, place, *settings), daemon=True)
    process.start()
    theirs.close()
    return Worker(place, process, ours)


def give_up(worker: Worker, workers: list[Worker]) -> Slot:
    """Leaves the device of a worker that could not start; its cell is for others. Raises WorkError for the last one."""
    workers.remove(worker)
    worker.pipe.close()
    worker.process.join()
    assert worker.slot is not None
    what = f"no process can start on {worker.place} (exit code {worker.process.exitcode})"
    if not workers:
        raise WorkError(f"{what}: see its message above")
    say(f"{what}: the others go on without it")
    return worker.slot


def hand(worker: Worker, slot: Slot, ready: dict[str, Ready], names: dict[int, str]) -> None:
    """Sends a cell. A user's files are named first, because a pickle only names what they define."""
    cell = slot.cell
    own = tasks.file_of(cell.task)
    title = names[id(slot)]
    title += f" on {worker.place}" if worker.place.startswith("cuda:") else ""
    worker.slot = slot
    with contextlib.suppress(OSError):  # it is dead already; `listen` will notice
        content = pickle.dumps(cell)
        worker.pipe.send((str(own) if own else "", cell.spec, content, ready[cell.data_key].ladder, slot.path, title))


def listen(worker: Worker, ready: dict[str, Ready]) -> str | None:
    """Takes what the worker says; reads its slot again when the cell has ended, and returns a problem, or ''.

    None: the worker has died before it was ready, so that its cell is not to blame.
    """
    slot, problem = worker.slot, ""
    assert slot is not None
    try:
        if not worker.pipe.poll():
            if worker.process.is_alive():
                return ""
            raise EOFError
        if not worker.ready:
            worker.ready = worker.pipe.recv()
            return ""
        problem, healthy = worker.pipe.recv()
        if not healthy:
            worker.process.join()
    except (EOFError, OSError):
        if not worker.ready:
            return None
        worker.process.join()
        mourn(slot, ready[slot.cell.data_key], worker.process.exitcode)
    worker.slot, slot.record = None, slot.read()
    return problem


def mourn(slot: Slot, ready: Ready, code: int | None) -> None:
    """Writes the record of a cell whose process has died."""
    how = f"by signal {signal.Signals(-code).name}" if code and code < 0 else f"with exit code {code}"
    if code == -signal.SIGKILL:
        how += " (out of memory?)"
    reason = f"its process ended {how}; the same command goes on from the last checkpoint"
    say(f"{slot.cell.task} {slot.cell.row} seed {slot.cell.seed}: failed: {reason}")
    with contextlib.suppress(BusyError), slot.work.lock():
        slot.record = describe(slot.cell, ready.data, status="failed", reason=reason, ladder=ready.ladder)
        slot.keep()


def stop(workers: list[Worker]) -> None:
    """Ends the idle ones by closing their pipes, the others at once: a cell goes on from its last checkpoint."""
    for worker in workers:
        worker.pipe.close()
        if worker.slot is not None:
            worker.process.terminate()
    for worker in workers:
        worker.process.join()


def serve(pipe: Connection, place: str, threads: int, data_dir: Path | None, track: str) -> None:
    """The worker: says that it is ready, then runs cells from the pipe until it is closed.

    It answers each with a problem, or '', and whether it can take another, or ends because its GPU is lost to it.
    """
    import torch

    from lra.training.device import choose_device, lost

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, too, and it stops us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    console.lines_only()
    device = choose_device(place)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(threads)
    known: dict[str, Ready] = {}
    pipe.send(True)
    healthy = True
    while healthy:
        try:
            message = pipe.recv()
        except EOFError:
            return
        problem = ""
        try:
            _run(message, device, data_dir, track, known)
        except Exception as error:
            problem = " ".join(f"{type(error).__name__}: {error}".split())
        healthy = not lost(device)
        pipe.send((problem, healthy))


def _run(message: tuple[Any, ...], device: Any, data_dir: Path | None, track: str, known: dict[str, Ready]) -> None:
    own, spec, content, ladder, path, title = message
    if own:
        tasks.find(own)
    entry, _ = attention_zoo.find(spec)
    cell = pickle.loads(content)
    if entry.source_hash != cell.attention.source_hash:
        raise WorkError(f"{entry.path} has changed since the command started; start it again")
    if cell.data_key not in known:
        known[cell.data_key] = Ready(make_ready(cell.task, cell.config, data_dir).data, ladder)
    ready = known[cell.data_key]
    slot = find_slot(cell, ready, path.parent, track)
    if slot.path != path:
        raise WorkError(f"the data of {cell.task} has changed since the command started; start it again")
    fill(slot, ready, device, title)


def _end_with_parent() -> None:
    """A parent that was killed cannot stop its workers, and they must not go on unseen."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
