"""Seeded draws of rows: the same on every machine and with every version of numpy."""

import hashlib

import numpy as np

from tasks._data import DataError


def shuffled(stream: str, rows: int) -> np.ndarray:
    """A permutation of 0 ... rows - 1 that depends only on the name of the stream."""
    keys = np.frombuffer(hashlib.shake_256(stream.encode()).digest(8 * rows), "<u8")
    return np.argsort(keys, kind="stable")


def stratified(stream: str, labels: np.ndarray, rows: int) -> np.ndarray:
    """Positions, in rising order, of a draw of `rows` labels in which each class keeps its share to within one row."""
    counts = np.bincount(labels)
    quotas, left = np.divmod(counts * rows, max(len(labels), 1))
    quotas[np.argsort(-left, kind="stable")[: rows - quotas.sum()]] += 1
    order = shuffled(stream, len(labels))
    return np.sort(np.concatenate([order[labels[order] == label][:quota] for label, quota in enumerate(quotas)]))


def part(task: str, name: str, seed: int, labels: np.ndarray, rows: int) -> np.ndarray:
    """`stratified` for the setting `name` of a task, where 0 rows means all. Raises DataError for too many rows."""
    if rows == 0:
        return np.arange(len(labels))
    if not 0 < rows <= len(labels):
        raise DataError(f"{task}: data.{name} must be 0 (all) to {len(labels)}, not {rows}")
    return stratified(f"{task} 1 {seed} {name}", labels, rows)


def hash_of(rows: np.ndarray) -> str:
    """12 hexadecimal digits of the hash of a list of rows."""
    return hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()[:12]
