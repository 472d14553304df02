"""Many cells: attention x task x seed. What is asked for, what is missing, and running that."""

from __future__ import annotations

import contextlib
import traceback
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attention_zoo
import tasks
from lra import config as configuration
from lra.cell import Cell, describe, make_model
from lra.config import Config
from lra.console import Bar, clock, say
from lra.data import Ready, describe_data, make_ready, resolve_for
from lra.errors import BusyError
from lra.record import FINAL, Record, load, save
from lra.run import train_cell

if TYPE_CHECKING:
    import torch

    from lra.work import Work


ARENA = ("listops", "text", "retrieval", "image", "pathfinder")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for. A task may be `all`: the five of the Arena, as far as their data can be had."""

    attentions: list[str]
    tasks: list[str]
    seeds: list[int]
    protocol: str = "standard"
    overrides: tuple[str, ...] = ()
    out: Path = Path("results/runs")
    data_dir: Path | None = None
    device: str = "auto"


def plan(request: Request) -> list[Cell]:
    """Every cell asked for, once, in order. Raises SpecError, DataError or ConfigError; no torch for built-ins."""
    names = [name for task in request.tasks for name in (ARENA if task == "all" else (tasks.find(task).name,))]
    configs = {task: _resolve(request, task) for task in dict.fromkeys(names)}
    found = [attention_zoo.find(spec) for spec in request.attentions]
    cells = [
        Cell(
            task=task,
            attention=entry,
            options=options,
            spec=spec,
            row=row,
            protocol=label,
            config=config,
            seed=seed,
        )
        for task, (label, config) in configs.items()
        for spec, (entry, options), row in zip(request.attentions, found, name_rows(found), strict=True)
        for seed in request.seeds
    ]
    return list({(cell.task, cell.row, cell.seed): cell for cell in cells}.values())


def _resolve(request: Request, task: str) -> tuple[str, Config]:
    """The protocol's name in tables, and the configuration of a task."""
    plain = resolve_for(task, request.protocol, [])
    config = resolve_for(task, request.protocol, list(request.overrides))
    return configuration.label_of(request.protocol, config, plain), config


def name_rows(found: list[tuple[attention_zoo.Entry, dict[str, Any]]]) -> list[str]:
    """Names for tables; files that share a name get the first digits of their hashes: mine@ab12."""
    files = {(entry.name, entry.path) for entry, _ in found}
    shared = {name for name, count in Counter(name for name, _ in files).items() if count > 1}
    rows = []
    for entry, options in found:
        if entry.name in shared:
            entry = replace(entry, name=f"{entry.name}@{entry.source_hash[:4]}")
        rows.append(entry.row(options))
    return rows


def prepare_all(request: Request, cells: list[Cell]) -> dict[str, Ready]:
    """Data of each task; tries each model once. Raises DataError, SpecError or ConfigError.

    A task of `all` whose data cannot be had is named and left out.
    """
    ready, missing = {}, []
    for task in dict.fromkeys(cell.task for cell in cells):
        mine = [cell for cell in cells if cell.task == task]
        try:
            ready[task] = make_ready(task, mine[0].config, request.data_dir)
        except tasks.MissingDataError as error:
            if "all" not in request.tasks:
                raise
            missing.append(task)
            say(f"missing: {error}")
            continue
        say(describe_data(task, ready[task].data, request.data_dir))
        for cell in mine:
            if cell.seed == request.seeds[0]:
                make_model(cell, ready[task].data.spec)
    if missing:
        say(f"{len(ready)} of {len(ready) + len(missing)} tasks have data; missing: {', '.join(missing)}")
    return ready


def run_grid(request: Request) -> list[Record]:
    """Runs the cells without a final record and returns the records of all; those that failed say so.

    Everything is checked before the first step. Raises SpecError, DataError, ConfigError, RecordError or WorkError.
    """
    cells = plan(request)
    from lra.place import choose_device, choose_precision  # torch, from here on
    from lra.work import writable

    writable(request.out)
    device = choose_device(request.device)
    cells = [replace(cell, precision=choose_precision(cell.config.train.precision, device)) for cell in cells]
    ready = prepare_all(request, cells)
    slots = [find_slot(cell, ready[cell.task], request.out) for cell in cells if cell.task in ready]
    missing = [slot for slot in slots if not slot.final]
    for slot in missing:
        slot.work.load_state()  # a damaged checkpoint is told before anything runs
    if len(missing) < len(slots):
        say(f"{len(slots) - len(missing)} of {len(slots)} cells have a record and are skipped")
    for number, slot in enumerate(missing, 1):
        title = f"[{number}/{len(missing)}] {slot.cell.task} {slot.cell.row} seed {slot.cell.seed}"
        try:
            with slot.work.lock():
                slot.record = slot.read()  # another process may have finished the cell since
                if not slot.final:
                    slot.record = run_cell(slot, ready[slot.cell.task], device, title)
                    save(slot.record, request.out)
                if slot.final:
                    slot.work.finish()
        except BusyError as error:
            say(f"{title}: {error}; skipped")
    return [slot.record for slot in slots if slot.record is not None]


@dataclass
class Slot:
    """A cell, the path of its record, the folder it works in, and the record, if there is one."""

    cell: Cell
    path: Path
    work: Work
    record: Record | None = None

    @property
    def final(self) -> bool:
        return self.record is not None and self.record.status in FINAL

    def read(self) -> Record | None:
        """Raises RecordError when a file stands where the record belongs but is none."""
        return load(self.path) if self.path.exists() else None


def find_slot(cell: Cell, ready: Ready, out: Path) -> Slot:
    """Raises RecordError as `Slot.read` does."""
    from lra.work import Work

    name = describe(cell, ready.data, status="failed").name
    slot = Slot(cell, out / f"{name}.json", Work(out / "work" / name))
    slot.record = slot.read()
    return slot


def run_cell(slot: Slot, ready: Ready, device: torch.device, title: str) -> Record:
    """Trains one cell; an exception becomes a record that says `failed`, with the traceback beside the log."""
    from lra.measure import environment
    from lra.place import Place

    cell, data = slot.cell, ready.data
    place = Place(
        device,
        precision=cell.precision,
        length=cell.length(data.spec),
        whole=cell.attention.padding == "fixed",
        padded=data.spec.padded,
        zero_is_padding=cell.config.model.zero_is_padding,
    )
    bar = Bar(title, cell.config.train, len(data.validation.labels), hint=quick_hint(cell, device))
    try:
        record = train_cell(cell, data, place, slot.work, ready.ladder, bar.update)
    except Exception as error:
        with contextlib.suppress(OSError):  # a full disk may be what failed
            slot.work.error.write_text(traceback.format_exc(), encoding="utf-8")
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        bar.close(f"failed: {reason} (traceback in {slot.work.error})")
        about = {"ladder": ready.ladder, "environment": environment(device)}
        return describe(cell, data, status="failed", reason=reason, **about)
    bar.close(summary(record))
    return record


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
