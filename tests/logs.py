"""The lines of a run's metrics.jsonl, for tests that read them."""

import json
from pathlib import Path
from typing import Any


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """The log of the only run in a run folder or in a folder of records."""
    (log,) = folder.rglob("metrics.jsonl")
    return [json.loads(line) for line in log.read_text().splitlines()]
