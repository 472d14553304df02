"""Reads Parquet files in blocks of rows, through `datasets`.

`datasets` copies the wanted columns to an Arrow file, which is mapped into memory and removed after reading. Its
streaming mode would need no copy, but it imports torch, and about half of the processes that use it abort at their end
(datasets 5.2 with pyarrow 26: https://github.com/huggingface/datasets/issues/7566).
"""

from __future__ import annotations

import errno
import glob
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks._data import DataError, printable

if TYPE_CHECKING:
    import datasets

BLOCK = 2048  # rows of a block
FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk is full, or the user's share of it


def blocks(path: Path, columns: list[str], folder: Path, advice: str = "copy or download it again") -> Iterator[Any]:
    """Yields these columns of a file as Arrow tables of BLOCK rows.

    folder: where the copy is kept while the tables are read; advice: what to do, at the end of an error's message.
    Raises DataError where the file is broken, lacks a column or holds no rows, and OSError when the disk is full.
    """
    parent = folder if printable(folder) == str(folder) else None  # Arrow opens no path that is not UTF-8
    with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as copy:
        try:
            yield from _read(path, columns, copy).with_format("arrow").iter(BLOCK)
        except Exception as error:  # from Arrow, `datasets` or the system
            raise _explained(error, path, columns, copy, advice) from error


def _read(path: Path, columns: list[str] | None, copy: str) -> datasets.Dataset:
    import datasets

    with _quiet():
        dataset = datasets.Dataset.from_parquet(glob.escape(str(path.absolute())), columns=columns, cache_dir=copy)
    assert isinstance(dataset, datasets.Dataset)
    return dataset


def _explained(error: BaseException, path: Path, columns: list[str], copy: str, advice: str) -> Exception:
    """The error to raise instead of one from `datasets`."""
    while error.__cause__ is not None:  # the outer error's message says only that an error occurred
        error = error.__cause__
    if isinstance(error, OSError) and error.errno in FULL:
        return error
    with suppress(Exception):
        present = _read(path, None, copy).column_names
        if missing := [repr(name) for name in columns if name not in present]:
            return DataError(f"{path} has no column {' and '.join(missing)}; it has {', '.join(present)}")
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if "corresponds to no data" in reason:
        return DataError(f"{path} holds no rows: {advice}")
    return DataError(f"{path} cannot be read, it may be cut short: {reason}; {advice}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps `datasets` from showing bars and from logging errors that are raised anyway."""
    import datasets
    from datasets.utils import logging

    level, hidden = logging.get_verbosity(), datasets.are_progress_bars_disabled()
    logging.set_verbosity(logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if not hidden:
            datasets.enable_progress_bars()


def labels_of(block: Any, path: Path, first: int, classes: int) -> np.ndarray:
    """The column `label` of a block whose first row is row `first` of the file -> (R,) int64.

    Raises DataError with the row of the first label that is not one of 0 to classes - 1.
    """
    labels = block["label"].to_pylist()
    for row, label in enumerate(labels, first):
        if type(label) is not int or not 0 <= label < classes:
            raise DataError(f"{path} row {row}: the label is {label!r}, not one of 0 to {classes - 1}")
    return np.array(labels, np.int64)
