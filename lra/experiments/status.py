"""The state of each run in an output folder: done, running and where, stopped with a checkpoint, failed or missing.

It reads records, `run.json` (what a run is, written before a grid starts), the holders of locks, the logs, and the
names of files. It takes no lock and reads no checkpoint, so it disturbs no run. It does not import torch.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

import tasks
from lra.experiments.run import Run
from lra.results import layout
from lra.results.find import find_records
from lra.results.locks import Holder, holder_of, stale_after
from lra.results.reading import PRECISIONS, content_of, parse
from lra.results.record import FINAL, Record

ORDER = ("running", "silent", "resumable", "failed", "missing", "diverged", "done")
TAIL = 4096  # bytes at the end of a log that are enough for its last line


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """A run as a row of a table.

    state: one of ORDER; "silent": another machine holds the run, but has changed no file of it for `LRA_STALE` seconds.
    step: the last step in the log; a checkpoint may be some steps further. phase: "pretraining", or empty. sign:
    seconds since the files of the run last changed. seconds: time taken so far. left: seconds left, estimated. Both are
    None where unknown. identity: the hash that ends the name of its record.
    """

    task: str
    row: str
    protocol: str
    seed: int
    state: str = "missing"
    phase: str = ""
    step: int = 0
    steps: int = 0
    holder: Holder | None = None
    sign: float = 0.0
    reason: str = ""
    seconds: float | None = None
    left: float | None = None
    identity: str = field(default="", compare=False)

    @property
    def title(self) -> str:
        return f"{self.task} {self.row} {self.protocol} seed {self.seed}"


def read_statuses(out: Path) -> tuple[list[RunStatus], list[str]]:
    """Every run that has a record or a folder in an output folder, and a line for each unreadable record."""
    records, problems = read_records(out)
    started = [path.parent.name for name in (layout.ABOUT, layout.LOCK) for path in out.glob(f"{layout.WORK}/*/{name}")]
    names = dict.fromkeys(name for name in (*records, *started) if not name.startswith("pretrained-"))
    statuses = [status_of(out, name, records.get(name)) for name in names if name.count("-") == 4]
    return estimated(statuses, records.values()), problems


def plan_statuses(out: Path, runs: Sequence[Run]) -> list[RunStatus]:
    """The state of each run of a plan. Its data need not exist: the run is looked up under every known data hash."""
    records, _ = read_records(out)
    hashes: dict[str, set[str]] = {}
    for task in {run.task for run in runs}:
        known = {data.hash for data in tasks.prepared(tasks.cache_folder(), task)}
        hashes[task] = known | {str(record.data.get("hash")) for record in records.values() if record.task == task}
    statuses = []
    for run in runs:
        named = [replace(run, precision=precision).name(h) for h in hashes[run.task] for precision in PRECISIONS]
        states = [status_of(out, name, records.get(name), run.about()) for name in named]
        missing = RunStatus(**run.about())
        statuses.append(
            min([*states, missing], key=lambda status: (status.state == "missing", status.state == "failed"))
        )
    return estimated(statuses, records.values())


def read_records(out: Path) -> tuple[dict[str, Record], list[str]]:
    """Records by their file's name, and a line for each unreadable one."""
    records, problems = find_records([out])
    return {path.stem: record for path, record in records.items()}, problems


def status_of(out: Path, name: str, record: Record | None, about: dict[str, Any] | None = None) -> RunStatus:
    """The state of the run with this name. about: as in `run.json`, which is read if it is None."""
    folder = layout.work_folder(out, name)
    if record is not None:
        train = record.config.get("train", {})
        status = RunStatus(task=record.task, row=record.row, protocol=record.protocol, seed=record.seed,
                    state=record.status, reason=record.reason, steps=train.get("steps", 0),
                    identity=record.identity)  # fmt: skip
        if record.status in FINAL:
            last = record.curve[-1]["step"] if record.curve else 0
            return replace(status, step=int(last), seconds=sum(record.seconds.values()))
    else:
        about = about or read_about(folder / layout.ABOUT, name)
        facts = {key: value for key, value in about.items() if key != "pretraining"}
        status = RunStatus(**facts, identity=name.rpartition("-")[2])
    status = replace(status, **progress_of(folder))
    pretraining = read_about(folder / layout.ABOUT, name).get("pretraining")
    shared = layout.work_folder(out, pretraining) if pretraining else None
    if status.step == 0 and shared and not (shared / layout.PRETRAINING).exists():
        progress = progress_of(shared)
        status = replace(status, phase="pretraining", **progress) if progress["step"] else status
    holder = holder_of(folder / layout.LOCK)
    sign = time.time() - max((modified(path) for path in folder.glob("*")), default=time.time())
    if holder is not None and not holder.ended:
        here = holder.place == Holder().place
        state = "running" if here or sign < stale_after() else "silent"
        return replace(status, state=state, holder=holder, sign=sign)
    if status.state == "missing" and any((folder / name).exists() for name in (layout.RESUME, layout.RESUME_BEFORE)):
        return replace(status, state="resumable")
    return status


def modified(path: Path) -> float:
    with contextlib.suppress(OSError):  # it has just been replaced or deleted
        return path.stat().st_mtime
    return 0.0


def read_about(path: Path, name: str) -> dict[str, Any]:
    """The facts in `run.json`; those that it lacks are taken from the name of the run."""
    task, row, protocol, seed, _ = name.split("-")
    known = {"task": task, "row": row, "protocol": protocol, "seed": int(seed[1:]) if seed[1:].isdecimal() else 0}
    with contextlib.suppress(OSError, ValueError, AttributeError, RecursionError):
        content = parse(content_of(path))
        kinds = {"task": str, "row": str, "protocol": str, "seed": int, "steps": int, "pretraining": str}
        known |= {key: content[key] for key, kind in kinds.items() if isinstance(content.get(key), kind)}
    return known


def progress_of(folder: Path) -> dict[str, Any]:
    """The step and the seconds in the last line of a run's log; 0 and None without one."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError):
        with (folder / layout.METRICS).open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL))
            lines = file.read().splitlines(keepends=True)
        line = json.loads([line for line in lines if line.endswith(b"\n")][-1])
        return {"step": int(line["step"]), "seconds": float(line["seconds"])}
    return {"step": 0, "seconds": None}


def estimated(statuses: Iterable[RunStatus], records: Iterable[Record]) -> list[RunStatus]:
    """The statuses, sorted by state, with `left` from done runs of the row, else of the task, else their own steps."""
    taken: dict[tuple[str, ...], list[float]] = {}
    for record in records:
        if record.status == "done":
            for key in ((record.task, record.protocol, record.row), (record.task, record.protocol)):
                taken.setdefault(key, []).append(sum(record.seconds.values()))
    estimates = []
    for status in sorted(statuses, key=lambda status: (ORDER.index(status.state), status.title)):
        if status.state in FINAL:
            estimates.append(replace(status, left=0.0))
            continue
        whole = taken.get((status.task, status.protocol, status.row)) or taken.get((status.task, status.protocol))
        done = status.step / status.steps if status.steps and not status.phase else 0.0
        left = mean(whole) * (1 - done) if whole else None
        if left is None and done and status.seconds:
            left = status.seconds / done * (1 - done)
        estimates.append(replace(status, left=left))
    return estimates
