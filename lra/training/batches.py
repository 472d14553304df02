"""A batch in slices that hardly hold any padding, and a slice as tensors on the device.

A batch keeps its samples, but is sorted by length and cut into slices, each padded only to its own longest sample;
the slices' gradients add up to the batch's.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lra.training.device import Place

# A slice's tokens, at most, and the padding among them after which a further slice is worth its overhead. On a CPU a
# slice's activations should stay in cache.
SLICE_TOKENS = {"cpu": 4_096, "cuda": 131_072, "mps": 65_536}
SLICE_PADDING = {"cpu": 512, "cuda": 16_384, "mps": 16_384}
RESIDENT = ("cuda",)  # devices that keep a split's values
UNLABELLED = -100  # the label that a loss leaves out


class Samples(Protocol):
    """A split of a task: values (R, L) uint8, lengths (R,) int32, labels (R,) int64; of pairs, see `sizes`."""

    @property
    def values(self) -> np.ndarray: ...
    @property
    def lengths(self) -> np.ndarray: ...
    @property
    def labels(self) -> np.ndarray: ...
    @property
    def pairs(self) -> np.ndarray | None: ...


def slices_of(lengths: np.ndarray, place: Place, training: bool = True) -> list[np.ndarray]:
    """Positions of rows, in slices that suit the device; larger ones in an evaluation, which keeps nothing."""
    if place.whole:
        lengths = np.full_like(lengths, place.length)
    device, factor = place.device.type, 1 if training else 4
    return cut(lengths, factor * SLICE_TOKENS[device], factor * SLICE_PADDING[device])


def cut(lengths: np.ndarray, tokens: int, padding: int) -> list[np.ndarray]:
    """Positions 0..R-1 by falling length, in slices of at most `tokens` tokens and `padding` among them, or one row."""
    order = np.argsort(-lengths, kind="stable")
    falling = lengths[order].astype(np.int64)
    slices, start = [], 0
    while start < len(order):
        longest = falling[start]
        ahead = np.arange(1, min(len(order) - start, max(1, tokens // longest)) + 1)
        padded = longest * ahead - np.cumsum(falling[start : start + len(ahead)])
        end = start + int(np.searchsorted(padded, padding, side="right"))
        slices.append(order[start:end])
        start = end
    return slices


def documents(samples: Samples, rows: np.ndarray) -> np.ndarray:
    """Rows of `values` that these samples read: (B,), of pairs (2B,)."""
    return rows if samples.pairs is None else samples.pairs[rows].ravel()


def sizes(samples: Samples, rows: np.ndarray) -> np.ndarray:
    """Lengths by which a batch is sorted, (B,): of a pair, of the longer document."""
    if samples.pairs is None:
        return samples.lengths[rows]
    return samples.lengths[samples.pairs[rows]].max(axis=1)


@dataclass(frozen=True)
class Table:
    """A split on the device: values (R, L) uint8, lengths (R,) and labels (S,) int64, pairs (S, 2) int64 or None."""

    values: Tensor
    lengths: Tensor
    labels: Tensor
    pairs: Tensor | None


_tables: dict[tuple[int, str], tuple[Samples, Table | None]] = {}  # the samples are kept, so that an id stays theirs


def release(*needed: Samples) -> None:
    """Frees what GPUs hold of other splits, those of the tasks before."""
    for key, (samples, _) in list(_tables.items()):
        if not any(samples is one for one in needed):
            del _tables[key]


def resident(samples: Samples, device: torch.device) -> Table | None:
    """The split on a GPU, copied once, where its values take at most a quarter of the free memory; else None."""
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
    """A copy there, one for all splits that share the array; None where it takes over a quarter of what is free."""
    for samples, table in _tables.values():
        if samples.values is values and table is not None and table.values.device == device:
            return table.values
    free = math.inf
    if device.type == "cuda":  # what PyTorch caches is free, too
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + cached
    return torch.from_numpy(np.array(values)).to(device) if values.nbytes <= free / 4 else None


def integers(array: np.ndarray, device: torch.device) -> Tensor:
    return to_device(np.array(array, dtype=np.int64), device)


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """A copy that does not wait: from ordinary memory CUDA would wait for everything before it."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def load(
    samples: Samples, rows: np.ndarray, place: Place, shape: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Rows of a split -> ids (B, N) or (B, 2, N) int64, keep of the same shape or None, labels (B,), on the device.

    N is the longest of these rows. Padding is told from lengths, never from a value, unless by the quirk.
    shape: B and N, where they are given; further rows have label UNLABELLED. Then keep is there wherever lengths vary.
    """
    labels = integers(samples.labels[rows], place.device)
    if shape is not None:
        missing = shape[0] - len(rows)
        labels = F.pad(labels, (0, missing), value=UNLABELLED)
        rows = np.concatenate((rows, np.repeat(rows[:1], missing)))
    wanted = documents(samples, rows)
    lengths = integers(samples.lengths[wanted], place.device)
    longest = shape[1] if shape else place.length if place.whole else int(samples.lengths[wanted].max())
    table = resident(samples, place.device)
    if table is None:
        stored = torch.from_numpy(np.ascontiguousarray(samples.values[wanted, :longest])).to(place.device)
    else:
        stored = table.values[integers(wanted, place.device), :longest]
    ids, keep = identify(stored, lengths, place, longest)
    if shape is None and keep is not None and not place.zero_is_padding and (samples.lengths[wanted] == longest).all():
        keep = None
    return *arrange(ids, keep, samples.pairs is not None), labels


def gather(table: Table, rows: Tensor, place: Place, length: int) -> tuple[Tensor, Tensor | None, Tensor]:
    """`load` on the device alone: rows (B,) int64, -1 for a row without a label, at one length."""
    labels = torch.where(rows >= 0, table.labels[rows.clamp(min=0)], UNLABELLED)
    rows = rows.clamp(min=0)
    wanted = rows if table.pairs is None else table.pairs[rows].flatten()
    ids, keep = identify(table.values[wanted, :length], table.lengths[wanted], place, length)
    return *arrange(ids, keep, table.pairs is not None), labels


def identify(stored: Tensor, lengths: Tensor, place: Place, length: int) -> tuple[Tensor, Tensor | None]:
    """Values (R, up to N) uint8 -> ids (R, N) int64 and keep (R, N), None where every sequence fills it."""
    ids = F.pad(stored.long(), (0, length - stored.shape[1])) + int(place.padded)
    if place.zero_is_padding:
        return ids, ids != 0
    if not place.padded and length == stored.shape[1]:
        return ids, None
    keep = torch.arange(length, device=ids.device) < lengths[:, None]
    return torch.where(keep, ids, 0), keep


def arrange(ids: Tensor, keep: Tensor | None, pair: bool) -> tuple[Tensor, Tensor | None]:
    """(2B, N) -> (B, 2, N) for pairs."""
    if not pair:
        return ids, keep
    return ids.unflatten(0, (-1, 2)), None if keep is None else keep.unflatten(0, (-1, 2))
