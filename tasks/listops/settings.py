"""The settings of ListOps' data, and their ranges."""

from __future__ import annotations

from dataclasses import dataclass

from tasks._data import check_ranges


@dataclass(frozen=True)
class Settings:
    """The `data` section of a protocol for ListOps. With released files only max_length and brackets matter."""

    seed: int = 0  # fixes the generated trees; the `--seed` of a run does not change them
    train_rows: int = 96_000  # generated trees to train on
    validation_rows: int = 10_000  # generated trees to validate on
    test_rows: int = 10_000  # generated trees to test on
    min_length: int = 500  # a tree has more tokens than this
    max_length: int = 2000  # a tree has fewer tokens than this
    max_depth: int = 10  # most levels of a tree, counting its digits as one: operators nest one level less
    max_args: int = 10  # most arguments of an operator
    brackets: bool = True  # quirk: false drops the closing brackets, as Nystromformer's and Skyformer's suites did


def check(settings: Settings) -> None:
    """Raises DataError for a setting outside its range."""
    ranges = {
        **dict.fromkeys(("train_rows", "validation_rows", "test_rows"), (1, 100_000_000)),
        "min_length": (1, 65_535),
        "max_length": (settings.min_length + 2, 65_536),
        "max_depth": (2, 256),
        "max_args": (2, 1000),
    }
    check_ranges("listops", settings, ranges)
