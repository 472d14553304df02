"""Data that is made in memory, for tasks small enough to need no cache; most users' tasks are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tasks._checks import check
from tasks._data import GENERATED, SPLITS, USERS, Data, DataError, Spec, Split
from tasks._task import Task


def in_memory(task: Task, settings: Any, spec: Spec, splits: Mapping[str, Split], cache: Path) -> Data:
    """Data of these splits (train, validation, test). Its hash covers the sizes and all that a model is given.

    So an edit of the task's file, or of a file that it imports or reads, changes the hash exactly if it changes these.
    Nothing is written to `cache`. Raises DataError where an array does not fit the sizes.
    """
    digest = hashlib.sha256(json.dumps(asdict(spec), sort_keys=True).encode())
    for name in SPLITS:
        if name not in splits:
            raise DataError(f"{task.name}: no {name} split: give train, validation and test")
        check(task.name, name, splits[name], spec)
        split = splits[name]
        for array in (split.values, split.lengths, split.labels, *([] if split.pairs is None else [split.pairs])):
            digest.update(np.ascontiguousarray(array).data)
    code = digest.hexdigest()[:12]
    about = {
        "task": task.name,
        "label": GENERATED if type(task).__module__.startswith("tasks.") else USERS,
        "source": task.title,
        "settings": asdict(settings),
        "rows": {name: len(splits[name].labels) for name in SPLITS},
    }
    return Data(spec=spec, **splits, hash=code, about=about, folder=cache / f"{task.name}-{code}")
