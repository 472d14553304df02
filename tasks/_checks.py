"""Do the arrays of a split fit the sizes of its task? Each check names the first row that does not."""

from __future__ import annotations

import numpy as np

from tasks._data import DataError, Spec, Split


def check(task: str, name: str, split: Split, spec: Spec, *, values: bool = True) -> None:
    """Raises DataError for the first fault: types, shapes, lengths, labels, pairs, groups or, if asked, values."""
    for fault in (_shapes, _lengths, _labels, *([_values] if values else []), _pairs, _groups):
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
    """The first row that is wrong, or None."""
    return int(wrong.argmax()) if wrong.any() else None
