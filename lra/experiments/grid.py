"""Many cells: which are missing, and running those, here or in several processes."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import tasks
from lra.console import say
from lra.errors import ConfigError, WorkError
from lra.experiments.data import Ready, describe_data, make_ready
from lra.experiments.job import Slot, fill, find_slot, titles
from lra.experiments.plan import ARENA, Request, name_rows, part_of, plan
from lra.experiments.run import Cell, make_model
from lra.results.record import Record
from lra.training.tracker import check_tracker

if TYPE_CHECKING:
    import torch

    from lra.training.distributed import Group

__all__ = ["ARENA", "Request", "name_rows", "plan", "run_cells", "run_grid"]


def run_grid(request: Request) -> list[Record]:
    """Runs the cells without a final record and returns the records of all; those that failed say so.

    Everything is checked before the first step. Raises SpecError, DataError, ConfigError, RecordError or WorkError.
    """
    slots = run_cells(request, part_of(plan(request), request.shard), forgiving="all" in request.tasks)
    return [slot.record for slot in slots if slot.record is not None]


def run_cells(request: Request, cells: list[Cell], forgiving: bool = False) -> list[Slot]:
    """Runs those of the cells that have no final record, where `request` says, and returns a slot for each.

    forgiving: cells whose data cannot be had are named and left out; else they raise. Raises as `run_grid` does.
    """
    from lra.results.files import writable
    from lra.training.device import choose_precision  # torch, from here on

    check_tracker(request.track)
    writable(request.out)
    places, group = request.places, find_group(request)
    kind = group.device if group else check_devices(places) if places else find_device(request.device)
    cells = [replace(cell, precision=choose_precision(cell.config.train.precision, kind)) for cell in cells]
    if group:
        group.check(cells)
        ready = group.first(lambda: prepare_all(request, cells, forgiving))
    else:
        ready = prepare_all(request, cells, forgiving)
    slots = find_slots(request, cells, ready)
    final = group.tell([slot.final for slot in slots]) if group else [slot.final for slot in slots]
    missing = [slot for slot, done in zip(slots, final, strict=True) if not done]
    for slot in missing:
        slot.work.load_state()  # a damaged checkpoint is told before anything runs
    if len(missing) < len(slots):
        say(f"{len(slots) - len(missing)} of {len(slots)} cells have a record and are skipped")
    for note in dict.fromkeys(note for slot in missing for note in slot.cell.attention.notes):
        say(note)
    own = dict.fromkeys(slot.cell.spec for slot in missing if not slot.cell.attention.builtin)
    if own:
        say(f"a mechanism of your own may be wrong in silence: python run_lra.py check {' '.join(own)}")
    run_missing(request, missing, ready, kind, group)
    if group:  # what is chosen from the records must be chosen alike
        for slot in slots:
            slot.record = group.tell(slot.record)
    return slots


def find_slots(request: Request, cells: list[Cell], ready: dict[str, Ready]) -> list[Slot]:
    """Of the cells with data, and of those that `match_params` puts beside them. Raises ConfigError or RecordError."""
    if request.match_params:
        from lra.experiments.match import match

        cells = match(cells, ready)
    known = [cell for cell in cells if cell.data_key in ready]
    return [find_slot(cell, ready[cell.data_key], request.out, request.track) for cell in known]


def run_missing(
    request: Request, missing: list[Slot], ready: dict[str, Ready], device: torch.device, group: Group | None
) -> None:
    """Runs the cells: each in all processes of the group, or in a worker on each place, or one by one here."""
    if request.places and missing:
        from lra.experiments.workers import fill_all

        fill_all(missing, ready, request.places, request.data_dir, request.track)
        return
    from lra.training.device import lost

    for slot, title in zip(missing, titles(missing), strict=True):
        if group:
            from lra.training.distributed import fill_together

            fill_together(slot, ready[slot.cell.data_key], group, title)
        else:
            fill(slot, ready[slot.cell.data_key], device, title)
            if lost(device):
                raise WorkError(f"{device} is lost to this process after {title}: start the same command again")


def find_group(request: Request) -> Group | None:
    """The processes of a command that torchrun has started, or None. Raises ConfigError."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("WORLD_SIZE") == "1":
        return None
    if request.places:
        raise ConfigError("torchrun shares each run among its processes; leave --devices and --jobs out")
    from lra.training.distributed import join

    return join(request.device)


def find_device(name: str) -> torch.device:
    """The torch device of this name. Raises ConfigError."""
    from lra.training.device import choose_device

    return choose_device(name)


def check_devices(names: list[str]) -> torch.device:
    """A torch device of the kind they all are, without a context on any GPU. Raises ConfigError."""
    import torch

    if not names[0].startswith("cuda:"):
        return find_device(names[0])
    there = torch.cuda.device_count()
    absent = [name for name in names if int(name.removeprefix("cuda:")) >= there]
    if absent:
        count = f"{there} GPUs" if there != 1 else "one GPU"
        raise ConfigError(f"{', '.join(absent)} cannot be used: this machine has {count}; on a CPU: --jobs 2")
    return torch.device("cuda")


def prepare_all(request: Request, cells: list[Cell], forgiving: bool) -> dict[str, Ready]:
    """Data by `Cell.data_key`; tries each model once. Raises DataError, SpecError or ConfigError."""
    ready, missing = {}, []
    for key in dict.fromkeys(cell.data_key for cell in cells):
        mine = [cell for cell in cells if cell.data_key == key]
        task = mine[0].task
        try:
            ready[key] = make_ready(task, mine[0].config, request.data_dir)
        except tasks.MissingDataError as error:
            if not forgiving:
                raise
            missing.append(task)
            say(f"missing: {error}")
            continue
        say(describe_data(task, ready[key].data, request.data_dir))
        for cell in {(cell.row, cell.protocol): cell for cell in reversed(mine)}.values():
            make_model(cell, ready[key].data.spec)
    if missing:
        lost, wanted = list(dict.fromkeys(missing)), {cell.task for cell in cells}
        say(f"{len(wanted) - len(lost)} of {len(wanted)} tasks have data; missing: {', '.join(lost)}")
    return ready
