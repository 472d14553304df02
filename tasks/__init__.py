"""The data: one file or folder per task, found by its name. This package knows files and labels, but no models.

To add a task, add a file `name.py`, or a folder `name/` with a file `task.py`, that ends in `task = MyTask()`. It may
import the shared pieces `tasks/_*.py` and its own folder; the shared pieces import numpy, numba, `datasets`
and the like, and none of the suite's other packages. Importing this package is cheap: numba and `datasets` are imported
when data is generated, read or measured.
"""

from tasks._cache import cache_folder
from tasks._data import SPLITS, Data, DataError, MissingDataError, Spec, Split
from tasks._find import ARENA, code_of, expand, file_of, find, names
from tasks._intact import check_splits, find_fault, has_hashes, is_doubtful, verify
from tasks._ladders import store_ladder
from tasks._memory import in_memory
from tasks._pack import pack, unpack
from tasks._store import UNPACKED, broken, find_by_hash, prepared
from tasks._task import Network, Task

__all__ = [
    "ARENA",
    "SPLITS",
    "UNPACKED",
    "Data",
    "DataError",
    "MissingDataError",
    "Network",
    "Spec",
    "Split",
    "Task",
    "broken",
    "cache_folder",
    "check_splits",
    "code_of",
    "expand",
    "file_of",
    "find",
    "find_by_hash",
    "find_fault",
    "has_hashes",
    "in_memory",
    "is_doubtful",
    "names",
    "pack",
    "prepared",
    "store_ladder",
    "unpack",
    "verify",
]
