"""What a task is: sizes (`Spec`), arrays (`Split`, `Data`) and the two things a task does, prepare and ladder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tasks._ladders import find_ladder, store_ladder

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np


class DataError(ValueError):
    """Data that is missing, broken or impossible, or a task that does not exist: one line for the user."""


class MissingDataError(DataError):
    """No source of this data is here or in reach; other tasks can still run."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Sizes a model needs.

    padded: sequences differ in length; then id 0 is pad and an id is a stored value plus 1. Otherwise every sequence
    has `length` tokens and an id is the value itself.
    """

    vocab: int  # ids, pad included
    classes: int
    length: int  # tokens of the longest sequence the task allows
    grid: tuple[int, int] | None = None  # rows and columns of an image, or none
    pair: bool = False  # two documents per sample
    padded: bool = True


@dataclass(frozen=True)
class Split:
    """R samples. What stands in `values` beyond a row's length is 0 and means nothing.

    Of a task with pairs, values and lengths hold U documents, each once, and `pairs` says which two make a sample.
    """

    values: np.ndarray  # (R, L) or (U, L) uint8, memory-mapped, read-only
    lengths: np.ndarray  # (R,) or (U,) int32, tokens
    labels: np.ndarray  # (R,) int64
    groups: dict[str, tuple[list[str], np.ndarray]] = field(default_factory=dict)  # name -> names, codes (R,) uint8
    pairs: np.ndarray | None = None  # (R, 2) int32, rows of values


@dataclass(frozen=True)
class Data:
    """Three splits and where they come from. `hash` is 12 hexadecimal digits over the content and the ids."""

    spec: Spec
    train: Split
    validation: Split
    test: Split
    hash: str
    about: dict[str, Any]  # task, label ("generated" or "official"), source, settings, seed, rows, split_rule, sha256
    folder: Path  # the cache folder that holds the arrays


@dataclass(frozen=True, kw_only=True)
class Network:
    """A small network as a rung of an image task's ladder; the bench builds and trains it (`lra/rungs.py`)."""

    kind: Literal["patches", "convolutions"]
    width: int  # features of the first layer
    steps: int
    batch: int = 128
    lr: float = 3e-3  # the peak
    seed: int = 0


class Task(ABC):
    """A task: its name, the fields of its `data` section, and how its data and its trivial answers are made."""

    name: ClassVar[str]
    title: ClassVar[str]
    images: ClassVar[bool] = False  # are samples images, whose spec has a grid?
    settings: ClassVar[type]  # a frozen dataclass with typed defaults: the `data.*` keys of a protocol
    section: ClassVar[dict[str, Any]] = {}  # model, train and data keys, where a protocol has no section for the task
    networks: ClassVar[dict[str, Network]] = {}  # rungs of the ladder that are trained, for `data ladder` alone

    @abstractmethod
    def prepare(self, settings: Any, data_dir: Path | None, cache: Path, progress: bool) -> Data:
        """Find or generate, verify, encode once, memory-map. Raises DataError."""

    def climb(self, data: Data) -> dict[str, float]:
        """Computes the ladder: rung -> accuracy on the test split, in rising order of what is read."""
        labels = [int(label) for label in data.train.labels]
        return {"constant": float((data.test.labels == max(set(labels), key=labels.count)).mean())}

    def quick_rungs(self, data: Data) -> dict[str, float] | None:  # noqa: ARG002
        """The rungs a run may wait for where the ladder takes long or needs an extra; None: the whole ladder."""
        return None

    def ladder(self, data: Data) -> dict[str, float]:
        """The ladder of this data: shipped, else cached, else its quick rungs, else computed and cached."""
        rungs = find_ladder(data) or self.quick_rungs(data)
        if rungs is None:
            rungs = self.climb(data)
            with suppress(OSError):
                store_ladder(data.folder, data, rungs)
        return rungs
