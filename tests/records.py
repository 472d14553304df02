"""Made-up records of runs and benches, one or many, for tests that need a record without training."""

import dataclasses
import math
import random
from typing import Any

from lra.hashing import identity_of
from lra.results.bench_record import Bench
from lra.results.record import Record

LADDER = {"constant": 0.17, "root operator": 0.364, "root operator + digits": 0.371, "1 level": 0.604, "2 levels": 0.75}
ROWS = ("softmax", "relu", "elu", "flatten", "agent", "pola", "softmax:conv=5", "mine", "mean")
TASKS = {"listops": 0.40, "text": 0.64, "retrieval": 0.78, "image": 0.41, "pathfinder": 0.70}


def make(row: str, accuracy: float | None = None, *, seed: int = 0, **changes: Any) -> Record:
    """The record of a finished run on quick ListOps; `changes` replace its fields."""
    points = [(100, 0.2), (200, 0.3), (300, accuracy or 0.3)]
    fields: dict[str, Any] = {
        "status": "done" if accuracy is not None else "failed",
        "task": "listops",
        "protocol": "quick",
        "precision": "float32",
        "attention": {
            "name": row.split(":")[0],
            "title": row,
            "options": {},
            "source_hash": "ab12cd34",
            "builtin": True,
        },
        "config": {"train": {"lr": 1e-3}},
        "data": {"label": "generated", "hash": "0123456789abcdef"},
        "ladder": LADDER,
        "parameters": {"total": 209802},
        "curve": [{"step": step, "validation_accuracy": value} for step, value in points],
        "test_rows": 10_000,
        "learned": True,
        "accuracy_by": {"root operator": {"MAX": 0.5, "MIN": 0.25}} if accuracy else {},
        "seconds": {"train": 60.0},
        "tokens_per_second": 12345.6,
        "environment": {"device": "cpu", "commit": "abc"},
        "created": "2026-01-01T00:00:00+00:00",
    } | changes
    identity = identity_of({"row": row, "seed": seed} | {k: v for k, v in fields.items() if k != "created"})
    return Record(identity=identity, row=row, seed=seed, test_accuracy=accuracy, **fields)


def grid(rows: int = 9, tasks: int = 5, seeds: int = 5, **changes: Any) -> list[Record]:
    """A record per cell and seed; if there is room, one is diverged, one failed, one at chance and one missing."""
    return table(ROWS[:rows], tasks, seeds, **changes)


def table(rows: tuple[str, ...], tasks: int = 5, seeds: int = 5, **changes: Any) -> list[Record]:
    """As `grid`, for rows of any names."""
    made = []
    for task in list(TASKS)[:tasks]:
        for place, row in enumerate(rows):
            for seed in range(seeds):
                state = {(1, 1): "diverged", (2, 2): "failed", (3, 3): "chance"}.get((place, seed), "done")
                if (place, seed) != (4, 4):
                    made.append(run(row, task, seed, state, **changes))
    return made


def five_tasks() -> list[Record]:
    """23 rows on five tasks with ladders and four seeds each: the widest comparison that the suite makes."""
    others = (
        "linformer",
        "performer",
        "nystrom",
        "longformer",
        "hedgehog",
        "cosformer",
        "fnet",
        "local",
        "s4d",
        "swin",
    )
    rows = (*ROWS, "elu:conv=5", *others, "taylor", "pvt", "softmax+longformer")
    named = {"listops": "root operator + digits", "text": "bag of words", "retrieval": "shared words"}
    named |= {"image": "mean colour of the quarters"}
    made = []
    for record in table(rows, seeds=4, points=2):
        ladder = {"constant": 0.17} | ({named[record.task]: TASKS[record.task]} if record.task in named else {})
        label = "matched pairs" if record.task == "retrieval" else "official"
        if record.learned is False and record.task != "pathfinder":  # only there chance and success in a cell
            record = run(record.row, record.task, record.seed, points=2)
        made.append(dataclasses.replace(record, ladder=ladder, data=record.data | {"label": label}))
    return made


def run(
    row: str, task: str = "listops", seed: int = 0, state: str = "done", points: int = 50, **changes: Any
) -> Record:
    """A record of the standard protocol with a curve, a machine and sizes; equal arguments give equal records."""
    draw = random.Random(f"{row} {task} {seed} {changes}")
    place = ROWS.index(row) if row in ROWS else 0
    final = TASKS[task] + 0.008 * place + draw.gauss(0, 0.006) if state != "chance" else 0.17
    steps = [1000 * (i + 1) for i in range(points)]
    curve = [
        {"step": s, "validation_accuracy": 0.1 + (final - 0.1) * (1 - math.exp(-4 * s / steps[-1])), "lr": 1e-3}
        for s in steps
    ]
    done = state in ("done", "chance")
    fields: dict[str, Any] = {
        "status": "done" if done else state,
        "reason": "loss is not finite at step 300" if state == "diverged" else "",
        "task": task,
        "protocol": "standard",
        "attention": {
            "name": row.split(":")[0],
            "title": row.capitalize(),
            "paper": "https://example.org/paper",
            "options": {"conv": 5} if "conv" in row else {},
            "cost": "O(N)",
            "padding": "masked",
            "fidelity": "adapted: 1-D convolution",
            "source_hash": "e7e9ede53430",
            "builtin": row != "mine",
        },
        "config": {"model": {"layers": 2, "dim": 64}, "train": {"steps": steps[-1], "lr": 1e-3, "batch": 32}},
        "config_hash": "0a3a6f2f29ee",
        "data": {"label": "generated", "hash": f"{task}-0123456789", "rows": {"test": 10_000}},
        "ladder": {name: LADDER[name] for name in ("constant", "root operator", "1 level")}
        if task == "listops"
        else {},
        "parameters": {"total": 80_000 + 500 * place, "without_embeddings": 70_000, "attention": 33_000},
        "curve": curve if state != "failed" else [],
        "best_step": steps[-1] if done else None,
        "validation_accuracy": final if done else None,
        "test_accuracy_last": final if done else None,
        "learned": state != "chance" if done else None,
        "accuracy_by": {},
        "seconds": {"train": 60.0, "evaluate": 2.5},
        "tokens_per_second": 2e4 * (1 + place) if done else None,
        "peak_bytes": int(4e8 * (1 + place % 4)) if done else None,
        "environment": {
            "device": "cpu",
            "device_name": "A Processor",
            "threads": 2,
            "torch": "2.13.0",
            "commit": "abc",
        },
    } | changes
    return make(row, final if done else None, seed=seed, **fields)


def bench(row: str, length: int, power: float = 1.0, **changes: Any) -> Bench:
    """A bench record whose seconds and peak bytes grow with this power of the length."""
    step = 0.01 * (length / 256) ** power
    fields: dict[str, Any] = {
        "status": "done",
        "row": row,
        "shape": "uniform",
        "protocol": "standard",
        "length": length,
        "batch": 8,
        "mode": "training",
        "gear": "eager",
        "precision": "float32",
        "attention": {"name": row},
        "model": {"layers": 2},
        "seconds": [0.9 * step, step, 1.2 * step],
        "peak_bytes": int(1e8 + 1e5 * length**power),
        "held_bytes": int(1e8),
        "environment": {"device": "cpu", "device_name": "A Processor", "threads": 2},
    } | changes
    return Bench(**fields)
