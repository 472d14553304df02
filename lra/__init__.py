"""Long Range Arena for efficient attention: train, measure, report.

In Python, `lra.records("results/runs")` is a flat DataFrame, and `lra.load(run)` gives back a run's weights and
configuration. Importing this package loads the standard library only.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas

    from lra.experiments.load import Loaded

__all__ = ["load", "records"]


def records(*paths: str | Path | Iterable[str | Path]) -> pandas.DataFrame:
    """One row per record in these files and folders, or lists of them (default results/runs).

    An unreadable file is skipped with a warning, as `report` skips it. Raises RecordError when no record is left.
    """
    import warnings

    from lra.report.load import none_found, read

    lists = ([path] if isinstance(path, str | Path) else path for path in paths or ("results/runs",))
    wanted = [Path(path) for some in lists for path in some]
    frame, problems = read(wanted)
    if frame.empty:
        raise none_found(wanted, problems)
    for problem in problems:
        warnings.warn(f"skipped: {problem}", stacklevel=2)
    return frame


def load(run: str | Path) -> Loaded:
    """The record of a run, its configuration and its best weights, by the path of the record.

    Raises RecordError or WorkError when one of them is missing or damaged.
    """
    from lra.experiments.load import load_run

    return load_run(Path(run))
