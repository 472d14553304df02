"""Records made up for tests of reports."""

from typing import Any

from lra.hashing import identity_of
from lra.results.record import Record

LADDER = {"constant": 0.17, "root operator": 0.364, "root operator + digits": 0.371, "1 level": 0.604, "2 levels": 0.75}


def make(row: str, accuracy: float | None = None, *, seed: int = 0, **changes: Any) -> Record:
    """A finished run on quick ListOps, or with the fields given."""
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
