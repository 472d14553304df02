"""A batch in slices that hardly hold any padding, and a slice as tensors on the device.

A batch keeps its samples, but is sorted by length and cut into slices, each padded only to its own longest sample;
the slices' gradients add up to the batch's.
"""

import math
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lra.place import Place

# A slice's tokens, at most, and the padding among them after which a further slice is worth its overhead. On a CPU a
# slice's activations should stay in cache.
SLICE_TOKENS = {"cpu": 4_096, "cuda": 131_072, "mps": 65_536}
SLICE_PADDING = {"cpu": 512, "cuda": 16_384, "mps": 16_384}
RESIDENT = ("cuda",)  # devices that keep a split's values


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


def slices_of(lengths: np.ndarray, place: Place) -> list[np.ndarray]:
    """Positions of a batch's rows, in slices that suit the device."""
    if place.whole:
        lengths = np.full_like(lengths, place.length)
    device = place.device.type
    return cut(lengths, SLICE_TOKENS[device], SLICE_PADDING[device])


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


_tables: dict[tuple[int, str], tuple[Samples, Tensor | None]] = {}  # the samples are kept, so that an id stays theirs


def resident(samples: Samples, device: torch.device) -> Tensor | None:
    """The split's values on a GPU, copied once, where they take at most a quarter of its free memory; else None."""
    if device.type not in RESIDENT or not isinstance(samples.values, np.ndarray):
        return None
    key = (id(samples), str(device))
    if key not in _tables:
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf
        fits = samples.values.nbytes <= free / 4
        _tables[key] = samples, torch.from_numpy(np.array(samples.values)).to(device) if fits else None
    return _tables[key][1]


def load(samples: Samples, rows: np.ndarray, place: Place) -> tuple[Tensor, Tensor | None, Tensor]:
    """Rows of a split -> ids (B, N) or (B, 2, N) int64, keep of the same shape or None, labels (B,), on the device.

    N is the longest of these rows. Padding is told from lengths, never from a value, unless by the quirk.
    """
    labels = torch.from_numpy(np.asarray(samples.labels[rows], dtype=np.int64)).to(place.device)
    wanted = documents(samples, rows)
    lengths = np.asarray(samples.lengths[wanted], dtype=np.int64)
    longest = place.length if place.whole else int(lengths.max())
    table = resident(samples, place.device)
    if table is None:
        stored = torch.from_numpy(np.ascontiguousarray(samples.values[wanted, :longest])).to(place.device)
    else:
        stored = table[torch.from_numpy(np.asarray(wanted, dtype=np.int64)).to(place.device), :longest]
    ids = F.pad(stored.long(), (0, longest - stored.shape[1])) + int(place.padded)
    keep = None
    if not (lengths == longest).all():
        keep = torch.arange(longest, device=place.device) < torch.from_numpy(lengths).to(place.device)[:, None]
        ids = torch.where(keep, ids, 0)
    if place.zero_is_padding:
        keep = ids != 0
    if samples.pairs is not None:
        ids = ids.unflatten(0, (-1, 2))
        keep = None if keep is None else keep.unflatten(0, (-1, 2))
    return ids, keep, labels
