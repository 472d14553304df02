"""Made-up records in any number: shaped like runs of five tasks, from a seed."""

import math
import random
from typing import Any

from lra.hashing import identity_of
from lra.results.bench_record import Bench
from lra.results.record import Record

ROWS = ("softmax", "relu", "elu", "flatten", "agent", "pola", "softmax:conv=5", "mine", "mean")
TASKS = {"listops": 0.40, "text": 0.64, "retrieval": 0.78, "image": 0.41, "pathfinder": 0.70}
LADDER = {"constant": 0.17, "root operator": 0.364, "1 level": 0.604}


def grid(rows: int = 9, tasks: int = 5, seeds: int = 5, **changes: Any) -> list[Record]:
    """A record per cell and seed; one diverged, one failed, one at chance and one missing where there is room."""
    made = []
    for task in list(TASKS)[:tasks]:
        for place, row in enumerate(ROWS[:rows]):
            for seed in range(seeds):
                state = {(1, 1): "diverged", (2, 2): "failed", (3, 3): "chance"}.get((place, seed), "done")
                if (place, seed) != (4, 4):
                    made.append(run(row, task, seed, state, **changes))
    return made


def run(
    row: str, task: str = "listops", seed: int = 0, state: str = "done", points: int = 50, **changes: Any
) -> Record:
    """One run; the same arguments give the same record."""
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
        "row": row,
        "protocol": "standard",
        "seed": seed,
        "precision": "float32",
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
        "ladder": LADDER if task == "listops" else {},
        "parameters": {"total": 80_000 + 500 * place, "without_embeddings": 70_000, "attention": 33_000},
        "curve": curve if state != "failed" else [],
        "best_step": steps[-1] if done else None,
        "validation_accuracy": final if done else None,
        "test_accuracy_last": final if done else None,
        "test_rows": 10_000,
        "learned": state != "chance" if done else None,
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
        "created": "2026-01-01T00:00:00+00:00",
    } | changes
    accuracy = final if done else None
    return Record(identity=identity_of({**fields, "test": accuracy}), test_accuracy=accuracy, **fields)


def bench(row: str, length: int, power: float = 1.0, **changes: Any) -> Bench:
    """A measurement whose time grows with this power of the length; seconds and bytes."""
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
