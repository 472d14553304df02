"""The optimiser step and the evaluation that every run uses: device, precision, slices that hardly hold any padding.

A batch keeps its samples, but is sorted by length and cut into slices, each padded only to its own longest sample;
the slices' gradients add up to the batch's.
"""

import contextlib
import math
import os
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.config import Train
from lra.encoder import seed_of
from lra.errors import ConfigError

# A slice's tokens, at most, and the padding among them after which a further slice is worth its overhead. On a CPU a
# slice's activations should stay in cache.
SLICE_TOKENS = {"cpu": 4_096, "cuda": 131_072, "mps": 65_536}
SLICE_PADDING = {"cpu": 512, "cuda": 16_384, "mps": 16_384}
RESIDENT = ("cuda",)  # devices that keep a split's values
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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


@dataclass(frozen=True)
class Place:
    """Where to compute, how precisely, and how samples become ids.

    length: the longest sequence. whole: pad every slice to it, for mechanisms that cannot mask. padded: sequences
    differ in length, ids are values + 1 and 0 is pad; else ids are the values. zero_is_padding: the quirk that masks
    every value 0, wherever it stands.
    """

    device: torch.device
    precision: str = "float32"
    length: int = 0
    whole: bool = False
    padded: bool = True
    zero_is_padding: bool = False

    def autocast(self) -> contextlib.AbstractContextManager:
        enabled = self.precision != "float32"
        return torch.autocast(self.device.type, dtype=PRECISIONS[self.precision], enabled=enabled)

    def cut(self, lengths: np.ndarray) -> list[np.ndarray]:
        """Positions of a batch's rows, in slices."""
        if self.whole:
            lengths = np.full_like(lengths, self.length)
        device = self.device.type
        return cut(lengths, SLICE_TOKENS[device], SLICE_PADDING[device])


def choose_device(name: str) -> torch.device:
    """auto: CUDA, else MPS, else the CPU. Raises ConfigError for a device that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def choose_precision(wanted: str, device: torch.device) -> str:
    """auto: bfloat16 autocast on CUDA, float32 elsewhere."""
    return wanted if wanted != "auto" else "bfloat16" if device.type == "cuda" else "float32"


def set_deterministic(wanted: bool) -> None:
    """Bit-equal runs on CUDA, or PyTorch's fast default; an operation without a deterministic form then raises."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(wanted)
    torch.backends.cuda.enable_mem_efficient_sdp(not wanted)  # its backward pass is not deterministic


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


def rise(config: Train, step: int) -> float:
    """0 at the first step, 1 at step `warmup`, 0 at the last, linear between: OneCycleLR's two linear phases."""
    if step < config.warmup and config.warmup > 1:
        return step / (config.warmup - 1)
    return (config.steps - step - 1) / max(1, config.steps - config.warmup)


def learning_rate(config: Train, step: int) -> float:
    """lr of step 0, 1, ...: by default from start_lr * lr up to lr, then down to end_lr * lr."""
    if config.schedule == "rsqrt":
        warmup = max(1, config.warmup)
        return config.lr * min(1.0, (step + 1) / warmup) / math.sqrt(max(step + 1, warmup))
    low = config.start_lr if step < config.warmup else config.end_lr
    height = rise(config, step)
    if config.schedule == "cosine" and step >= config.warmup:
        height = (1 - math.cos(math.pi * height)) / 2
    return config.lr * (low + (1 - low) * height)


def momentum(config: Train, step: int) -> float:
    """beta1 of a step; with cycle_beta1 it falls from 0.95 to 0.85 while lr rises, and back."""
    return 0.95 - 0.10 * rise(config, step) if config.cycle_beta1 else config.beta1


class Step:
    """One optimiser step. Dropout is a function of (seed, step, slice), so nothing of a generator need be saved."""

    def __init__(self, model: nn.Module, config: Train, place: Place, seed: int):
        self.model, self.config, self.place, self.seed = model, config, place, seed
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=place.device.type in ("cpu", "cuda"),
        )
        self.real_tokens = self.computed_tokens = 0

    def gradients(self, samples: Samples, rows: np.ndarray, step: int) -> Tensor:
        """Adds the batch's mean gradient to .grad, slice by slice, and returns its mean loss, on the device."""
        self.model.train()
        total = torch.zeros((), device=self.place.device)
        for number, part in enumerate(self.place.cut(sizes(samples, rows))):
            torch.manual_seed(seed_of(self.seed, "dropout", step, number))
            ids, keep, labels = load(samples, rows[part], self.place)
            with self.place.autocast():
                logits = self.model(ids, keep)
            loss = F.cross_entropy(logits.float(), labels, reduction="sum") / len(rows)
            loss.backward()
            total += loss.detach()
            self.computed_tokens += ids.numel()
        self.real_tokens += int(samples.lengths[documents(samples, rows)].sum())
        return total

    def __call__(self, samples: Samples, rows: np.ndarray, step: int) -> Tensor:
        """Step number `step` (from 0) on these rows; returns the batch's mean loss, on the device."""
        config, group = self.config, self.optimizer.param_groups[0]
        group["lr"] = learning_rate(config, step)
        group["betas"] = (momentum(config, step), config.beta2)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.gradients(samples, rows, step)
        if config.clip == "norm":
            nn.utils.clip_grad_norm_(self.parameters, config.clip_at)
        elif config.clip == "value":
            nn.utils.clip_grad_value_(self.parameters, config.clip_at)
        self.optimizer.step()
        return loss


@torch.inference_mode()
def evaluate(model: nn.Module, samples: Samples, rows: np.ndarray, place: Place) -> tuple[np.ndarray, float]:
    """Predicted classes of these rows, uint8 in their order, and the mean loss."""
    model.eval()
    predictions = np.empty(len(rows), dtype=np.uint8)
    total = torch.zeros((), device=place.device, dtype=torch.float64 if place.device.type != "mps" else torch.float32)
    for part in place.cut(sizes(samples, rows)):
        ids, keep, labels = load(samples, rows[part], place)
        with place.autocast():
            logits = model(ids, keep).float()
        total += F.cross_entropy(logits, labels, reduction="sum")
        predictions[part] = logits.argmax(-1).cpu().numpy()
    return predictions, float(total) / len(rows)
