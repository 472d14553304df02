"""Data made in memory, for tasks small enough not to need a cache: what a user's own task usually wants."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tasks._store import SPLITS
from tasks._task import Data, DataError, Spec, Split, Task


def in_memory(task: Task, settings: Any, spec: Spec, splits: Mapping[str, Split], cache: Path) -> Data:
    """Data of these splits (train, validation, test), checked against the sizes; its hash covers every array.

    Raises DataError where an array does not fit.
    """
    digest = hashlib.sha256(json.dumps(asdict(spec), sort_keys=True).encode())
    for name in SPLITS:
        if name not in splits:
            raise DataError(f"{task.name}: no {name} split")
        check(task.name, name, splits[name], spec)
        split = splits[name]
        for array in (split.values, split.lengths, split.labels, *([] if split.pairs is None else [split.pairs])):
            digest.update(np.ascontiguousarray(array).data)
    code = digest.hexdigest()[:12]
    about = {
        "task": task.name,
        "label": "own",
        "source": task.title,
        "settings": asdict(settings),
        "rows": {name: len(splits[name].labels) for name in SPLITS},
    }
    return Data(spec=spec, **splits, hash=code, about=about, folder=cache / f"{task.name}-{code}")


def check(task: str, name: str, split: Split, spec: Spec) -> None:
    """Raises DataError for wrong types, shapes, lengths, values, labels or pairs."""
    values, lengths, labels, pairs = split.values, split.lengths, split.labels, split.pairs
    samples = len(lengths if pairs is None else pairs)
    wrong = None
    if (values.dtype, lengths.dtype, labels.dtype) != (np.uint8, np.int32, np.int64):
        wrong = f"values, lengths, labels are uint8, int32, int64, not {values.dtype}, {lengths.dtype}, {labels.dtype}"
    elif (
        values.ndim != 2
        or values.shape[1] > spec.length
        or len(values) != len(lengths)
        or not samples == len(labels) > 0
    ):
        wrong = f"values {values.shape}, lengths {lengths.shape}, labels {labels.shape} do not fit up to {spec.length}"
    elif lengths.min() < 1 or lengths.max() > values.shape[1] or (not spec.padded and (lengths != spec.length).any()):
        wrong = f"lengths must be 1 to {values.shape[1]}, and all {spec.length} without padding"
    elif int(values.max()) + spec.padded >= spec.vocab or labels.min() < 0 or labels.max() >= spec.classes:
        wrong = f"an id of {int(values.max()) + spec.padded} or a label of {labels.max()} is beyond the spec"
    elif spec.pair != (pairs is not None):
        wrong = "spec.pair and the split's pairs belong together"
    elif pairs is not None and (pairs.shape != (samples, 2) or pairs.min() < 0 or pairs.max() >= len(values)):
        wrong = f"pairs {pairs.shape} must be ({samples}, 2), rows of the {len(values)} documents"
    if wrong:
        raise DataError(f"{task}, {name}: {wrong}")
