"""Ladders on disk: what trivial readers of a task score, one JSON file per data hash, shipped or beside the data."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks._task import Data

ROOT = Path(__file__).parent.parent
SHIPPED = (ROOT / "results" / "ladders", ROOT / "lra" / "_data" / "ladders")  # in the repository, in the wheel


def find_ladder(data: Data) -> dict[str, float] | None:
    """The stored ladder of this data, or None; an unreadable file counts as none."""
    for folder in (*SHIPPED, data.folder):
        try:
            stored = json.loads((folder / _name(data)).read_text(encoding="utf-8"))
            if stored["hash"] == data.hash:
                return {rung: float(accuracy) for rung, accuracy in stored["rungs"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return None


def store_ladder(folder: Path, data: Data, rungs: dict[str, float]) -> Path:
    """Writes `folder/task-hash.json` {task, hash, about, rungs}, all or nothing. Raises OSError."""
    path = folder / _name(data)
    content = {"task": data.about["task"], "hash": data.hash, "about": data.about, "rungs": rungs}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _name(data: Data) -> str:
    return f"{data.about['task']}-{data.hash}.json"
