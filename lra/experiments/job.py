"""The place of a cell on disk, and running it there: its record, its folder of work, its lock."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lra.config.resolve import as_dict
from lra.console import clock, say
from lra.errors import BusyError, WorkError
from lra.experiments.data import Ready
from lra.experiments.run import Cell, describe
from lra.experiments.train_and_test import train_cell
from lra.results.record import FINAL, Record, load, save
from lra.training.progress import Bar
from lra.training.tracker import Tracker

if TYPE_CHECKING:
    import torch

    from lra.training.distributed import Group
    from lra.training.run_folder import RunFolder


@dataclass
class Slot:
    """A cell, the path of its record, the folder it works in, and the record, if there is one."""

    cell: Cell
    path: Path
    work: RunFolder
    record: Record | None = None

    @property
    def final(self) -> bool:
        return self.record is not None and self.record.status in FINAL

    def read(self) -> Record | None:
        """Raises RecordError when a file stands where the record belongs but is none."""
        return load(self.path) if self.path.exists() else None

    def keep(self) -> None:
        """Writes the record, unless a final one has come from a process that no lock could keep away."""
        there, own = self.read(), self.record
        if there is not None and there.status in FINAL:
            self.record = there
        elif own is not None:
            save(own, self.path.parent)


def find_slot(cell: Cell, ready: Ready, out: Path, track: str = "") -> Slot:
    """track: the tracker its progress also goes to. Raises RecordError as `Slot.read` does."""
    from lra.training.run_folder import RunFolder

    name = describe(cell, ready.data, status="failed").name
    about = {"task": cell.task, "row": cell.row, "protocol": cell.protocol, "seed": cell.seed}
    tracker = Tracker(track, about | as_dict(cell.config))
    slot = Slot(cell, out / f"{name}.json", RunFolder(out / "work" / name, tracker))
    slot.record = slot.read()
    return slot


def titles(slots: list[Slot]) -> list[str]:
    """What each cell is called while it runs, with its protocol where only that tells it from another."""
    names = [f"{slot.cell.task} {slot.cell.row} seed {slot.cell.seed}" for slot in slots]
    count = Counter(names)
    return [
        f"[{number}/{len(slots)}] {name}" + (f" {slot.cell.protocol}" if count[name] > 1 else "")
        for number, (name, slot) in enumerate(zip(names, slots, strict=True), 1)
    ]


def fill(slot: Slot, ready: Ready, device: torch.device, title: str) -> None:
    """Runs the cell, unless its record is there by now or another process is at it. Raises RecordError."""
    try:
        with slot.work.lock():
            slot.record = slot.read()  # another process may have finished the cell since
            if not slot.final:
                slot.record = run_cell(slot, ready, device, title)
                slot.work.tracker.close()
                slot.keep()
            if slot.final:
                slot.work.finish()
    except BusyError as error:
        say(f"{title}: {error}; skipped")


def run_cell(slot: Slot, ready: Ready, device: torch.device, title: str, group: Group | None = None) -> Record:
    """Trains one cell; an exception becomes a record that says `failed`, with the traceback beside the log.

    group: the processes that share the cell; each calls this.
    """
    from lra.results.machine import environment
    from lra.training.run_folder import NoFolder

    cell, data = slot.cell, ready.data
    folder = NoFolder(slot.work.folder, group.rank) if group and group.rank else slot.work
    bar = Bar(title, cell.config.train, len(data.validation.labels), hint=quick_hint(cell, device))
    try:
        record = train_cell(cell, data, device, folder, ready.ladder, bar.update, group)
    except Exception as error:
        with contextlib.suppress(OSError):  # a full disk may be what failed
            folder.error.write_text(traceback.format_exc(), encoding="utf-8")
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        bar.close(f"failed: {reason} (traceback in {folder.error})")
        about = {"ladder": ready.ladder, "environment": environment(device)}
        return describe(cell, data, status="failed", reason=reason, **about)
    bar.close(summary(record))
    return record


def fill_together(slot: Slot, ready: Ready, group: Group, title: str) -> None:
    """Runs the cell in all processes, unless it is done by now or others are at it. Raises WorkError when it fails.

    A failure ends the command, because it need not have come to every process, and the others would wait for this one.
    """
    if group.rank:
        if group.broadcast(False):
            slot.record = run_cell(slot, ready, group.device, title, group)
    else:
        _lead(slot, ready, group, title)
    if slot.record is not None and slot.record.status == "failed":
        if group.rank:  # process 0 has said it
            print(f"{title}: process {group.rank} failed: {slot.record.reason}", file=sys.stderr)
        raise WorkError(f"{title} failed, and with it the command: {slot.record.reason}")


def _lead(slot: Slot, ready: Ready, group: Group, title: str) -> None:
    try:
        with slot.work.lock():
            slot.record = slot.read()
            if group.broadcast(not slot.final):
                slot.record = run_cell(slot, ready, group.device, title, group)
                slot.work.tracker.close()
                slot.keep()
            if slot.final:
                slot.work.finish()
    except BusyError as error:
        group.broadcast(False)
        say(f"{title}: {error}; skipped")


def summary(record: Record) -> str:
    """One line for the end of a cell."""
    if record.status == "diverged":
        return f"diverged: {record.reason}"
    chosen = f"step {record.best_step}" if record.best_step else "the last step"
    return f"test {100 * (record.test_accuracy or 0):.1f} % at {chosen}, {clock(sum(record.seconds.values()))}"


def quick_hint(cell: Cell, device: torch.device) -> str:
    """What to do instead of a long run on a CPU; empty elsewhere."""
    if device.type != "cpu" or cell.protocol == "quick":
        return ""
    return f"a first look takes about a minute: --attn {cell.spec} --task {cell.task} --protocol quick"
