"""A grid in several processes, one cell at a time in each: `--devices 0-7`, or `--jobs 2` on a CPU.

A worker lives for many cells, so that imports and compiled code are paid for once. One that dies takes its cell with
it: this cell's record says `failed` and why, another worker takes the next.
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
from lra.cell import describe
from lra.console import say
from lra.data import Ready, make_ready
from lra.errors import BusyError, WorkError
from lra.record import save
from lra.slot import Slot, fill, find_slot, titles

CONTEXT = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads and CUDA's state


@dataclass
class Worker:
    """A process on one device, and the slot it is at."""

    place: str
    process: Any
    pipe: Connection
    slot: Slot | None = None


def fill_all(
    slots: list[Slot], ready: dict[str, Ready], places: list[str], data_dir: Path | None = None, track: str = ""
) -> None:
    """Runs every slot's cell, each place one at a time. Raises WorkError when a cell could not be written down.

    places: a device for each process. ready: data by `Cell.data_key`, prepared.
    """
    import torch

    threads = max(1, torch.get_num_threads() // len(places))
    names = {id(slot): title for slot, title in zip(slots, titles(slots), strict=True)}
    left, workers, problems = list(reversed(slots)), [], []
    try:
        for place in places[: len(slots)]:
            workers.append(start(place, threads, data_dir, track))
            hand(workers[-1], left.pop(), ready, names)
        while busy := [worker for worker in workers if worker.slot is not None]:
            wait([thing for worker in busy for thing in (worker.pipe, worker.process.sentinel)])
            for worker in busy:
                problem = listen(worker, ready)
                if problem is not None:
                    problems += [problem] if problem else []
                    if left:
                        if not worker.process.is_alive():
                            worker.process, worker.pipe = _spawn(worker.place, threads, data_dir, track)
                        hand(worker, left.pop(), ready, names)
    finally:
        stop(workers)
    if problems:
        raise WorkError(problems[0])


def start(place: str, *settings: Any) -> Worker:
    return Worker(place, *_spawn(place, *settings))


def _spawn(place: str, *settings: Any) -> tuple[Any, Any]:
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=serve, args=(theirs, place, *settings), daemon=True)
    process.start()
    theirs.close()
    return process, ours


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
    """None while the worker's cell goes on; else its slot is read again, and a problem is told, or nothing ('')."""
    slot, problem = worker.slot, ""
    assert slot is not None
    try:
        if worker.pipe.poll():
            problem = worker.pipe.recv()
        elif worker.process.is_alive():
            return None
        else:
            raise EOFError
    except (EOFError, OSError):
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
        slot.record = slot.read()
        if not slot.final:
            save(describe(slot.cell, ready.data, status="failed", reason=reason, ladder=ready.ladder), slot.path.parent)


def stop(workers: list[Worker]) -> None:
    """Ends the idle ones by closing their pipes, the others at once: a cell goes on from its last checkpoint."""
    for worker in workers:
        worker.pipe.close()
        if worker.slot is not None:
            worker.process.terminate()
    for worker in workers:
        worker.process.join()


def serve(pipe: Connection, place: str, threads: int, data_dir: Path | None, track: str) -> None:
    """The worker: runs cells from the pipe until it is closed; answers each with a problem, or ''."""
    import torch

    from lra.place import choose_device

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, too, and it stops us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    console.lines_only()
    device = choose_device(place)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(threads)
    known: dict[str, Ready] = {}
    while True:
        try:
            message = pipe.recv()
        except EOFError:
            return
        try:
            _run(message, device, data_dir, track, known)
            pipe.send("")
        except Exception as error:
            pipe.send(" ".join(f"{type(error).__name__}: {error}".split()))


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
