"""The data: one file per task, found by name. Knows files and labels, nothing of models.

Importing this package is cheap: numba is imported when data is generated, read or measured.
"""

from tasks._cache import cache_folder
from tasks._find import ARENA, code_of, expand, file_of, find, names
from tasks._ladders import store_ladder
from tasks._memory import in_memory
from tasks._pack import pack, unpack
from tasks._store import UNPACKED, prepared
from tasks._task import Data, DataError, MissingDataError, Network, Spec, Split, Task

__all__ = [
    "ARENA",
    "UNPACKED",
    "Data",
    "DataError",
    "MissingDataError",
    "Network",
    "Spec",
    "Split",
    "Task",
    "cache_folder",
    "code_of",
    "expand",
    "file_of",
    "find",
    "in_memory",
    "names",
    "pack",
    "prepared",
    "store_ladder",
    "unpack",
]
