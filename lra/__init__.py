"""Long Range Arena for efficient attention: trains, measures, reports.

From Python: `lra.records("results/runs")` is a flat DataFrame, `lra.load(run)` gives a run's weights and config back.
Importing this package needs the standard library only.
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
    """One row per record of these files and folders, or lists of them (default results/runs).

    Raises RecordError for a broken file.
    """
    from lra.errors import RecordError
    from lra.report.load import read

    lists = ([path] if isinstance(path, str | Path) else path for path in paths or ("results/runs",))
    frame, problems = read([Path(path) for some in lists for path in some])
    if problems:
        raise RecordError("; ".join(problems))
    return frame


def load(run: str | Path) -> Loaded:
    """The record of a run, its configuration and its best weights, from the record's path.

    Raises RecordError or WorkError when one of them is missing or damaged.
    """
    from lra.experiments.load import load_run

    return load_run(Path(run))
