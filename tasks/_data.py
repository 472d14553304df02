"""Prepared data: its sizes (`Spec`), its arrays (`Split`), the three splits with their origin (`Data`), its errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

GENERATED, OFFICIAL = "generated", "official"  # labels of data; official: as many rows as published
USERS_FILES, USERS = "user's files", "user's"  # labels, too: other rows in a built-in task's files; a user's task
SPLITS = ("train", "validation", "test")


class DataError(ValueError):
    """Data that is missing, broken or impossible, or a task that does not exist: one line for the user."""

    def __init__(self, message: str):
        super().__init__(printable(message))


class MissingDataError(DataError):
    """No source of this data is on this machine or can be downloaded; other tasks can still run."""


def printable(text: object) -> str:
    """A text, or a path as text; bytes of file names that are not UTF-8 become U+FFFD."""
    return str(text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """The sizes that a model needs.

    padded: sequences differ in length; then id 0 is padding and an id is a stored value plus 1. Otherwise every
    sequence has `length` tokens and an id is the value itself.
    """

    vocab: int  # number of ids, padding included
    classes: int
    length: int  # tokens of the longest sequence that the task allows
    grid: tuple[int, int] | None = None  # rows and columns where a sequence is an image, else None
    pair: bool = False  # a sample is two documents
    padded: bool = True


@dataclass(frozen=True)
class Split:
    """R samples. In `values` the entries beyond a row's length are 0 and have no meaning.

    In a task of pairs, `values` and `lengths` hold U documents, each once, and `pairs` says which two make up a sample.
    """

    values: np.ndarray  # (R, L) or (U, L) uint8, memory-mapped, read-only
    lengths: np.ndarray  # (R,) or (U,) int32, tokens
    labels: np.ndarray  # (R,) int64
    groups: dict[str, tuple[list[str], np.ndarray]] = field(default_factory=dict)  # name -> names, codes (R,) uint8
    pairs: np.ndarray | None = None  # (R, 2) int32, rows of values


@dataclass(frozen=True)
class Data:
    """Three splits and where they come from. `hash` is 12 hexadecimal digits over the content and the sizes."""

    spec: Spec
    train: Split
    validation: Split
    test: Split
    hash: str
    about: dict[str, Any]  # task, label (one of those above), source, settings, seed, rows, split_rule, sha256
    folder: Path  # the cache folder that holds the arrays


def check_ranges(task: str, settings: Any, ranges: Mapping[str, tuple[int, int]]) -> None:
    """Raises DataError for the first setting outside its range, (least, most)."""
    for name, (least, most) in ranges.items():
        value = getattr(settings, name)
        if not least <= value <= most:
            raise DataError(f"{task}: data.{name} must be {least} to {most}, not {value}")
