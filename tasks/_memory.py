"""Data that is made in memory, for tasks small enough to need no cache; most users' tasks are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tasks._data import GENERATED, SPLITS, USERS, Data, DataError, Spec, Split
from tasks._task import Task


def in_memory(task: Task, settings: Any, spec: Spec, splits: Mapping[str, Split], cache: Path) -> Data:
    """Data of these splits (train, validation, test). Its hash covers the sizes and all that a model is given.

    So an edit of the task's file, or of a file that it imports or reads, makes other data exactly where it changes the
    arrays. Raises DataError where an array does not fit the sizes.
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


def check(task: str, name: str, split: Split, spec: Spec) -> None:
    """Raises DataError for the first fault: wrong types, shapes, lengths, labels, values, pairs or groups."""
    for fault in (_shapes, _lengths, _labels, _values, _pairs, _groups):
        if wrong := fault(split, spec):
            raise DataError(f"{task}, {name}: {wrong}")


def _shapes(split: Split, spec: Spec) -> str | None:
    arrays = (split.values, split.lengths, split.labels)
    types = [str(getattr(array, "dtype", type(array).__name__)) for array in arrays]
    if types != ["uint8", "int32", "int64"]:
        return f"values, lengths, labels must be uint8, int32, int64, not {', '.join(types)}"
    shapes = f"values {split.values.shape}, lengths {split.lengths.shape}, labels {split.labels.shape}"
    documents, samples = len(split.values), len(split.lengths if split.pairs is None else split.pairs)
    if [array.ndim for array in arrays] != [2, 1, 1] or split.values.shape[1] > spec.length:
        return f"{shapes} must be (rows, at most {spec.length}), (rows,) and (rows,)"
    if not documents == len(split.lengths) > 0 or not samples == len(split.labels) > 0:
        return f"{shapes} do not fit each other"
    return None


def _lengths(split: Split, spec: Spec) -> str | None:
    least, most = (1, split.values.shape[1]) if spec.padded else (spec.length, spec.length)
    row = _first((split.lengths < least) | (split.lengths > most) | (split.lengths > split.values.shape[1]))
    if row is None:
        return None
    rule = f"1 to {most}" if spec.padded else f"{most}, because spec.padded is False"
    return f"row {row}: the length is {split.lengths[row]}, not {rule}"


def _labels(split: Split, spec: Spec) -> str | None:
    row = _first((split.labels < 0) | (split.labels >= spec.classes))
    if row is None:
        return None
    return f"row {row}: the label is {split.labels[row]}, not one of 0 to {spec.classes - 1}, as spec.classes says"


def _values(split: Split, spec: Spec) -> str | None:
    most = spec.vocab - 1 - spec.padded  # with padding an id is a value plus 1
    row = _first(split.values.max(1).astype(np.int64) > most)
    if row is None:
        return None
    return f"row {row}: the value is {split.values[row].max()}, above {most}, the largest that spec.vocab allows"


def _pairs(split: Split, spec: Spec) -> str | None:
    pairs = split.pairs
    if spec.pair != (pairs is not None):
        return "set both spec.pair and the split's pairs, or neither"
    if pairs is None:
        return None
    if pairs.shape != (len(split.labels), 2):
        return f"pairs {pairs.shape} must be ({len(split.labels)}, 2)"
    row = _first((pairs.min(1) < 0) | (pairs.max(1) >= len(split.values)))
    if row is None:
        return None
    return f"row {row}: the pair {pairs[row].tolist()} is not among the {len(split.values)} documents"


def _groups(split: Split, _: Spec) -> str | None:
    for group, (names, codes) in split.groups.items():
        if np.shape(codes) != split.labels.shape:
            return f"the group {group!r} has {np.size(codes)} codes for {len(split.labels)} samples"
        if not np.issubdtype(np.asarray(codes).dtype, np.integer):
            return f"the codes of the group {group!r} must be integers, not {np.asarray(codes).dtype}"
        row = _first((np.asarray(codes) < 0) | (np.asarray(codes) >= len(names)))
        if row is not None:
            return f"row {row}: the code of the group {group!r} is {codes[row]}, not one of 0 to {len(names) - 1}"
    return None


def _first(wrong: np.ndarray) -> int | None:
    """The first row that is wrong."""
    return int(wrong.argmax()) if wrong.any() else None
