"""The data: one file per task, found by name. Knows files and labels, nothing of models.

Importing this package is cheap: numba is imported when data is generated, read or measured.
"""

import difflib
import importlib
from pathlib import Path

from tasks._base import Data, DataError, MissingDataError, Spec, Split, Task
from tasks._ladders import store_ladder
from tasks._pack import pack, unpack
from tasks._store import prepared

__all__ = [
    "Data",
    "DataError",
    "MissingDataError",
    "Spec",
    "Split",
    "Task",
    "find",
    "names",
    "pack",
    "prepared",
    "store_ladder",
    "unpack",
]


def names() -> list[str]:
    """The tasks, by file."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def find(name: str) -> Task:
    """The task of this name. Raises DataError, with the nearest match, for an unknown one."""
    if name not in names():
        close = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
        hint = f", did you mean {close[0]!r}?" if close else ""
        raise DataError(f"unknown task {name!r}{hint}; there are: {', '.join(names())}")
    return importlib.import_module(f"tasks.{name}").task
