"""Equal tuning: the same values for every mechanism and task, tried on one pilot seed, chosen by validation.

`--sweep train.lr=1e-4,3e-4 --select validation` runs a pilot for each value (of several keys: for each combination),
in `pilots/` below the output folder, where no report reads them; the seeds then run with the value whose pilot had the
highest validation accuracy. What was tried, what it cost and what was chosen stands in every record.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from lra.config import resolve as configuration
from lra.console import say
from lra.errors import ConfigError
from lra.experiments.grid import run_cells
from lra.experiments.job import Slot
from lra.experiments.plan import Request, part_of_rows, plan
from lra.experiments.run import Cell
from lra.results.record import Record

PILOT_SEED = 1000  # never among the seeds that are reported

Choice = tuple[str, ...]  # one override for each key that is swept


def run_sweep(request: Request, texts: list[str]) -> tuple[list[Record], bool]:
    """Pilots, then the seeds with what was chosen -> their records, and whether every mechanism could be tuned.

    Raises as `run_grid` does, and ConfigError for a sweep that cannot be read.
    """
    if request.match_params:
        raise ConfigError("--sweep tunes the mechanisms as they are; sweep without --match-params")
    choices = read_choices(texts, request.overrides)
    cells = part_of_rows(plan(request), request.shard)
    seed = next(number for number in itertools.count(PILOT_SEED) if number not in request.seeds)
    pilots = plan_pilots(request, choices, seed, {(cell.task, cell.row) for cell in cells})
    forgiving = "all" in request.tasks
    say(f"{len(pilots)} pilots: {len(choices)} for each mechanism and task, seed {seed}")
    slots = run_cells(replace(request, out=request.out / "pilots", match_params=False), pilots, forgiving)
    keys = [text.partition("=")[0] for text in choices[0]]
    tuned, complete = [], True
    for cell in cells:
        mine = [slot for slot in slots if (slot.cell.task, slot.cell.row) == (cell.task, cell.row)]
        best = choose(mine)
        if best is not None:
            about = {"select": "validation", "pilot_seed": seed, **describe_choice(keys, mine, best)}
            label = swept_label(cell.protocol, about["values"])
            tuned.append(replace(cell, config=best.cell.config, protocol=label, tuning=about))
        elif mine:
            complete = False
            say(f"{cell.task} {cell.row} seed {cell.seed} waits: not all its pilots are done; start the command again")
    records = [slot.record for slot in run_cells(request, tuned, forgiving)]
    return [record for record in records if record is not None], complete


def read_choices(texts: list[str], overrides: tuple[str, ...]) -> list[Choice]:
    """['train.lr=1e-4,3e-4', 'model.dropout=0,0.1'] -> the four combinations, in this order. Raises ConfigError."""
    lists: dict[str, list[str]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        found = list(dict.fromkeys(value.strip() for value in values.split(",")))
        if not equals or "" in found or len(found) < 2 or key.count(".") != 1:
            raise ConfigError(f"--sweep takes section.key=value,value,..., as in train.lr=1e-4,3e-4, not {text!r}")
        if key.startswith("data."):
            raise ConfigError(f"--sweep: {key} would make the task another one; sweep train.* and model.*")
        if key in ("train.precision", "train.gear"):
            raise ConfigError(f"--sweep: {key} says how to compute, which is not for validation to choose; use --set")
        if key in lists or any(other.partition("=")[0] == key for other in overrides):
            raise ConfigError(f"--sweep: {key} is given twice; values of one key go into one list, and not into --set")
        lists[key] = [f"{key}={value}" for value in found]
    return list(itertools.product(*lists.values()))


def plan_pilots(request: Request, choices: list[Choice], seed: int, wanted: set[tuple[str, str]]) -> list[Cell]:
    """A cell for each choice and each wanted (task, row). Raises ConfigError for a key or value that does not exist."""
    pilots = []
    for choice in choices:
        cells = plan(replace(request, seeds=[seed], overrides=(*request.overrides, *choice)))
        pilots += [replace(cell, tuning={"pilot": True}) for cell in cells if (cell.task, cell.row) in wanted]
    unique = {(cell.task, cell.row, configuration.hash_of(cell.config)): cell for cell in pilots}
    return list(unique.values())


def choose(pilots: list[Slot]) -> Slot | None:
    """The pilot with the best validation accuracy, the first of equals; None while one is missing or has failed.

    One that diverged loses to every other; where all did, the first stands for them.
    """
    if not pilots or not all(slot.final for slot in pilots):
        return None
    accuracies = [accuracy_of(slot.record) for slot in pilots]
    ranked = [-1.0 if accuracy is None else accuracy for accuracy in accuracies]
    return pilots[ranked.index(max(ranked))]


def accuracy_of(record: Record | None) -> float | None:
    """Validation accuracy of the checkpoint that a run would test; None where it diverged."""
    if record is None or record.status != "done":
        return None
    last = record.curve[-1]["validation_accuracy"] if record.curve else None
    return record.validation_accuracy if record.validation_accuracy is not None else last


def describe_choice(keys: list[str], pilots: list[Slot], best: Slot) -> dict[str, Any]:
    """What a record says of its tuning: values tried, the pilots' accuracies, what was chosen."""
    tried = [_values(slot.cell, keys) for slot in pilots]
    return {
        "values": {key: list(dict.fromkeys(found[key] for found in tried)) for key in keys},
        "pilots": len(pilots),
        "validation_accuracy": [
            {**found, "accuracy": accuracy_of(slot.record)} for found, slot in zip(tried, pilots, strict=True)
        ],
        "chosen": _values(best.cell, keys),
    }


def _values(cell: Cell, keys: list[str]) -> dict[str, Any]:
    plain = configuration.as_dict(cell.config)
    found = {}
    for key in keys:
        section, name = key.split(".")
        found[key] = plain[section][name]
    return found


def swept_label(label: str, values: dict[str, list[Any]]) -> str:
    """'standard' -> 'standard[swept: train.lr of 3]'."""
    words = "swept: " + ", ".join(f"{key} of {len(found)}" for key, found in values.items())
    return f"{label[:-1]},{words}]" if label.endswith("]") else f"{label}[{words}]"
