"""A job: a run with its files on disk. It is done when its record is final; until then `run_job` continues it."""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lra import signals
from lra.config.resolve import as_dict
from lra.console import clock, say
from lra.errors import BusyError, RecordError, WorkError, in_one_line
from lra.experiments.data import TaskData
from lra.experiments.run import Run, make_record
from lra.experiments.train_and_test import train_and_test
from lra.results import layout
from lra.results.files import encoded, write_atomically
from lra.results.record import FINAL, Record, faults, load, save
from lra.training.progress import Bar, Paused, Progress
from lra.training.tracker import Tracker

if TYPE_CHECKING:
    import torch

    from lra.training.distributed import Group
    from lra.training.run_folder import NoFolder, RunFolder

PAUSES = "pauses, to go on in more processes"


@dataclass
class Job:
    """A run, the path of its record, its run folder, and the record, once there is one.

    title: its name in messages. paused: it has stopped at a checkpoint, to continue from there. earlier: the `stamp`
    of the record's file when the job was opened, so that a failure which was recorded before is not taken for a new
    one. pretraining: the name of the folder of the run's pretraining, or ''.
    """

    run: Run
    path: Path
    folder: RunFolder
    record: Record | None = None
    title: str = ""
    paused: bool = False
    earlier: tuple[int, int] = (0, 0)
    pretraining: str = ""

    @property
    def final(self) -> bool:
        return self.record is not None and self.record.status in FINAL

    def read(self) -> Record | None:
        """The record on disk, if there is one. Raises RecordError if the file exists but is not a record."""
        return load(self.path) if self.path.exists() else None

    def outcome(self) -> Record | None:
        """The record on disk, unless it is a failure from before this job was opened."""
        record = self.read()
        return None if record is not None and record.status not in FINAL and self.stamp() == self.earlier else record

    def stamp(self) -> tuple[int, int]:
        """Inode and modification time (ns) of the record's file, which a new file changes; (0, 0) without one."""
        try:
            about = self.path.stat()
        except OSError:
            return 0, 0
        return about.st_ino, about.st_mtime_ns

    def announce(self) -> None:
        """Writes run.json, which says what the run is until it has a final record. Ignores an OSError."""
        path = self.folder.folder / layout.ABOUT
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            about = self.run.about() | ({"pretraining": self.pretraining} if self.pretraining else {})
            write_atomically(path, json.dumps(about).encode())

    def finish(self) -> None:
        """Deletes the files that only a run without a final record needs."""
        self.folder.finish()
        with contextlib.suppress(OSError):  # the next command tries again
            (self.folder.folder / layout.ABOUT).unlink(missing_ok=True)

    def forget_failure(self) -> None:
        """Drops a record that is not final, because a failed attempt is not the outcome of the next one."""
        if not self.final:
            self.record = None

    def keep(self) -> None:
        """Writes the record, unless a process that the lock did not stop has written a final one."""
        on_disk = self.read()
        if on_disk is not None and on_disk.status in FINAL:
            self.record = on_disk
        elif self.record is not None:
            save(self.record, self.path.parent)


def open_job(run: Run, data_hash: str, out: Path, track: str = "") -> Job:
    """The job of a run in an output folder. track: the tracker that also receives its progress. Raises RecordError."""
    from lra.training.run_folder import RunFolder

    name = run.name(data_hash)
    about = {"task": run.task, "row": run.row, "protocol": run.protocol, "seed": run.seed}
    tracker = Tracker(track, about | as_dict(run.config))
    job = Job(run, out / f"{name}.json", RunFolder(layout.work_folder(out, name), tracker))
    if run.config.train.pretrain != "none":
        from lra.experiments.pretrain import folder_name

        job.pretraining = folder_name(run, data_hash)
    job.earlier = job.stamp()
    job.record = job.read()
    return job


def placeholder_record(job: Job, prepared: TaskData) -> Record:
    """The record of a run before its first step. Raises RecordError for fields that a record cannot hold."""
    record = make_record(job.run, prepared.data, status="failed", reason="it has not ended", ladder=prepared.ladder)
    check_readable(record)
    return record


def check_readable(record: Record) -> None:
    """Raises RecordError for a record that could be written but not read back."""
    if wrong := faults(record):
        raise RecordError(f"{record.row} on {record.task}: a record cannot hold its {', '.join(wrong)}")


def titles(jobs: list[Job]) -> list[str]:
    """The name of each job in messages, with its protocol if another job differs in that alone."""
    names = [f"{job.run.task} {job.run.row} seed {job.run.seed}" for job in jobs]
    count = Counter(names)
    return [
        f"[{number}/{len(jobs)}] {name}" + (f" {job.run.protocol}" if count[name] > 1 else "")
        for number, (name, job) in enumerate(zip(names, jobs, strict=True), 1)
    ]


def run_job(
    job: Job,
    prepared: TaskData,
    group: Group,
    observe: Callable[[Progress], None] | None = None,
    pause: Callable[[Progress, Bar], bool] | None = None,
    raises: bool = False,
) -> None:
    """Trains and tests the run and writes its record, unless it is done by now or another process is working on it.

    Every process of the group calls this. An exception becomes a record with the status `failed`, or passes to the
    caller if `raises` is set. In a group that torchrun started, a failure also ends the command, because the others
    would wait for the process that failed. observe: called after every step. pause: called after every step; if it
    returns True, the run stops at a checkpoint, as after a signal. Raises RecordError or WorkError.
    """
    from lra.training.cores import crowding

    run, rows = job.run, len(prepared.data.validation.labels)

    def watch(progress: Progress) -> bool:
        bar.update(progress)
        if observe is not None:
            observe(progress)
        return (pause is not None and pause(progress, bar)) or signals.asked()

    job.forget_failure()
    folder = folder_of(job, group)
    with contextlib.ExitStack() as stack:
        if group.size > 1:  # if a signal took one process out of a step, the others would wait for it
            stack.enter_context(signals.held())
        free = stack.enter_context(claimed(job, group))
        if free:
            bar = Bar(job.title, run.config.train, rows, quick_hint(run, group.device), crowding(group.size))
            try:
                job.record = train_and_test(run, prepared, folder, group, watch)
                check_readable(job.record)
                bar.close(summary(job.record))
            except Paused:
                bar.close(f"saved at {bar.where}, stops" if group.any(signals.asked()) else PAUSES)
                job.paused = True
            except Exception as error:
                if raises:
                    bar.close()
                    raise
                job.record = record_failure(job, prepared, group, error, folder.error)
                bar.close(f"failed: {job.record.reason} (traceback in {folder.error})")
            finally:
                job.folder.tracker.close()
            if group.rank == 0:
                job.keep()
        if job.final and group.rank == 0:
            job.finish()
    if group.size > 1 and job.record is not None and job.record.status == "failed":
        if group.rank:  # process 0 has printed it already
            print(f"{job.title}: process {group.rank} failed: {job.record.reason}", file=sys.stderr)
        raise WorkError(f"{job.title} failed, and with it the command: {job.record.reason}")


@contextlib.contextmanager
def claimed(job: Job, group: Group) -> Iterator[bool]:
    """Holds the lock of the job in process 0, and yields to every process whether the job is to be run."""
    with contextlib.ExitStack() as stack:
        free = True
        if group.rank == 0:
            try:
                stack.enter_context(job.folder.lock())
                job.record = job.read()  # another process may have finished the run since the grid was planned
                free = not job.final
                job.forget_failure()
            except BusyError as error:
                say(f"{job.title}: {error}; skipped")
                free = False
        yield group.broadcast(free)


def folder_of(job: Job, group: Group) -> RunFolder | NoFolder:
    """The folder of the run for this process of the group; only process 0 writes files."""
    from lra.training.run_folder import NoFolder

    return NoFolder(job.folder.folder, group.rank) if group.rank else job.folder


def record_failure(job: Job, prepared: TaskData, group: Group, error: Exception, path: Path) -> Record:
    """The record of a run that has raised. path: where the traceback is written."""
    from lra.results.machine import environment

    with contextlib.suppress(OSError):  # a full disk may be what failed
        path.write_bytes(encoded(traceback.format_exc()))
    about = {"ladder": prepared.ladder, "environment": environment(group.device)}
    return make_record(job.run, prepared.data, status="failed", reason=in_one_line(error), **about)


def summary(record: Record) -> str:
    """One line for the end of a run."""
    if record.status == "diverged":
        return f"diverged: {record.reason}"
    chosen = f"step {record.best_step}" if record.best_step else "the last step"
    if record.tuning.get("pilot"):  # validation alone chooses among pilots, so test accuracy is not shown
        return f"pilot, validation {100 * (record.validation_accuracy or 0):.1f} % at {chosen}"
    return f"test {100 * (record.test_accuracy or 0):.1f} % at {chosen}, {clock(sum(record.seconds.values()))}"


def quick_hint(run: Run, device: torch.device) -> str:
    """What to do instead of a long run on a CPU; empty on a GPU and under the quick protocol."""
    if device.type != "cpu" or run.protocol == "quick":
        return ""
    return f"a first look, in minutes: --attn {run.spec} --task {run.task} --protocol quick"
