"""What runs computed: their records without times and the machine, as text, for tests that compare runs."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lra.results.record import Record

CHANGING = ("seconds", "tokens_per_second", "peak_bytes", "environment", "created")  # times and the machine
OF_OTHERS = ("seconds", "by", "shared")  # of a pretraining: its time, and which of the runs that share it did it


def computed(record: Record) -> str:
    assert record.status != "failed", record.reason
    return _text(asdict(record))


def computed_in(out: Path, names: str = "*.json") -> dict[str, str]:
    """File name -> what the run computed, of each record in a folder; failed runs are left out."""
    records = {path.name: json.loads(path.read_bytes()) for path in sorted(out.glob(names))}
    return {name: _text(fields) for name, fields in records.items() if fields["status"] != "failed"}


def _text(fields: dict[str, Any]) -> str:
    for name in CHANGING:
        del fields[name]
    for name in OF_OTHERS:
        fields["pretraining"].pop(name, None)
    for point in [*fields["curve"], *fields["pretraining"].get("curve", [])]:
        del point["seconds"]
    fields.pop("digest", None)  # of a file, over all that is in it
    return json.dumps(fields, indent=1)
