"""Rows of a split as tensors on the device: ids, a mask of the real tokens, and labels.

A GPU holds the split's values, copied once, if they fit, so that a step only sends row numbers.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lra.training.batches import Samples, documents
from lra.training.device import Padding

RESIDENT = ("cuda",)  # kinds of device that hold a split's values
UNLABELLED = -100  # the label that a loss leaves out


@dataclass(frozen=True)
class Table:
    """A split on the device: values (R, L) uint8, lengths (R,) and labels (S,) int64, pairs (S, 2) int64 or None."""

    values: Tensor
    lengths: Tensor
    labels: Tensor
    pairs: Tensor | None


# Holds a reference to the samples, so that their id cannot be reused.
_tables: dict[tuple[int, str], tuple[Samples, Table | None]] = {}


def release(*needed: Samples) -> None:
    """Frees the tables of all other splits, such as those of earlier tasks."""
    for key, (samples, _) in list(_tables.items()):
        if not any(samples is one for one in needed):
            del _tables[key]


def resident(samples: Samples, device: torch.device) -> Table | None:
    """The split on a GPU, copied once, if its values take at most a quarter of the free memory; otherwise None."""
    if device.type not in RESIDENT or not isinstance(samples.values, np.ndarray):
        return None
    key = (id(samples), str(device))
    if key not in _tables:
        table = None
        values = values_on(samples.values, device)
        if values is not None:
            lengths, labels = integers(samples.lengths, device), integers(samples.labels, device)
            pairs = None if samples.pairs is None else integers(samples.pairs, device)
            table = Table(values, lengths, labels, pairs)
        _tables[key] = samples, table
    return _tables[key][1]


def values_on(values: np.ndarray, device: torch.device) -> Tensor | None:
    """A copy on the device, shared by all splits of the array; None if it takes over a quarter of the free memory."""
    for samples, table in _tables.values():
        if samples.values is values and table is not None and table.values.device == device:
            return table.values
    free = math.inf
    if device.type == "cuda":  # PyTorch's cached memory is free, too
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + cached
    return torch.from_numpy(np.array(values)).to(device) if values.nbytes <= free / 4 else None


def integers(array: np.ndarray, device: torch.device) -> Tensor:
    return to_device(np.array(array, dtype=np.int64), device)


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """A copy from pinned memory, which does not wait: from ordinary memory CUDA would finish all earlier work first."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def load(
    samples: Samples, rows: np.ndarray, padding: Padding, device: torch.device, shape: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Rows of a split -> ids (B, N) or (B, 2, N) int64, keep of the same shape or None, labels (B,), on the device.

    N is the longest of these rows. Padding is derived from lengths, never from a value (except with zero_is_padding).
    With `shape`, which gives B and N, missing rows repeat the first one, labelled UNLABELLED, and keep is always
    returned where lengths vary.
    """
    labels = integers(samples.labels[rows], device)
    if shape is not None:
        missing = shape[0] - len(rows)
        labels = F.pad(labels, (0, missing), value=UNLABELLED)
        rows = np.concatenate((rows, np.repeat(rows[:1], missing)))
    wanted = documents(samples, rows)
    lengths = integers(samples.lengths[wanted], device)
    if shape is not None:
        longest = shape[1]
    else:
        longest = padding.length if padding.to_full_length else int(samples.lengths[wanted].max())
    table = resident(samples, device)
    if table is None:
        stored = torch.from_numpy(np.ascontiguousarray(samples.values[wanted, :longest])).to(device)
    else:
        stored = table.values[integers(wanted, device), :longest]
    ids, keep = identify(stored, lengths, padding, longest)
    full = shape is None and not padding.zero_is_padding and bool((samples.lengths[wanted] == longest).all())
    return *arrange(ids, None if full else keep, samples.pairs is not None), labels


def gather(table: Table, rows: Tensor, padding: Padding, length: int) -> tuple[Tensor, Tensor | None, Tensor]:
    """`load` without the host: rows (B,) int64, -1 for a row without a label, all padded to `length`."""
    labels = torch.where(rows >= 0, table.labels[rows.clamp(min=0)], UNLABELLED)
    rows = rows.clamp(min=0)
    wanted = rows if table.pairs is None else table.pairs[rows].flatten()
    ids, keep = identify(table.values[wanted, :length], table.lengths[wanted], padding, length)
    return *arrange(ids, keep, table.pairs is not None), labels


def identify(stored: Tensor, lengths: Tensor, padding: Padding, length: int) -> tuple[Tensor, Tensor | None]:
    """Values (R, up to N) uint8 -> ids (R, N) int64 and keep (R, N), or None where every sequence has length N."""
    ids = F.pad(stored.long(), (0, length - stored.shape[1])) + int(padding.padded)
    if padding.zero_is_padding:
        return ids, ids != 0
    if not padding.padded and length == stored.shape[1]:
        return ids, None
    keep = torch.arange(length, device=ids.device) < lengths[:, None]
    return torch.where(keep, ids, 0), keep


def arrange(ids: Tensor, keep: Tensor | None, pair: bool) -> tuple[Tensor, Tensor | None]:
    """(2B, N) -> (B, 2, N) for pairs."""
    if not pair:
        return ids, keep
    return ids.unflatten(0, (-1, 2)), None if keep is None else keep.unflatten(0, (-1, 2))
