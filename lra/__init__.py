"""Long Range Arena for efficient attention: train, measure, report.

In Python, `lra.prepare("pola", "listops")` gives the data and the model that a run starts from, `lra.load(run)` a
finished run's configuration and weights, and `lra.records("results/runs")` a flat DataFrame. Importing this package
loads the standard library only.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas

    from lra.experiments.load import Loaded
    from lra.experiments.prepared import Prepared

__all__ = ["load", "prepare", "records"]


def records(*paths: str | Path | Iterable[str | Path]) -> pandas.DataFrame:
    """A DataFrame with one row per record in these files and folders, or lists of them (default results/runs).

    The columns are those of runs.csv in a report: `task`, `row`, `seed`, `test_accuracy` (a fraction of 1), `status`,
    `config.train.lr`, `seconds_train`, `parameters_total`, ... Curves and predictions are in the files, at `path`.
    An unreadable file is skipped with a warning, as `report` skips it. Raises RecordError when no record is left.
    """
    import warnings

    from lra.report.load import none_found, read

    lists = ([path] if isinstance(path, str | Path) else path for path in paths or ("results/runs",))
    wanted = [Path(path) for entries in lists for path in entries]
    frame, problems = read(wanted)
    if frame.empty:
        raise none_found(wanted, problems)
    for problem in problems:
        warnings.warn(f"skipped: {problem}", stacklevel=2)
    return frame


def prepare(
    attention: str,
    task: str,
    *,
    protocol: str = "standard",
    overrides: Iterable[str] = (),
    seed: int = 0,
    data_dir: str | Path | None = None,
) -> Prepared:
    """What a run starts from: its configuration, its data and its untrained model, for a custom training loop.

    The arguments mean what they mean on the command line; overrides is a list of KEY=VALUE, as after --set. Raises
    SpecError, DataError or ConfigError.
    """
    from lra.errors import ConfigError
    from lra.experiments.plan import Request
    from lra.experiments.prepared import prepare

    if isinstance(overrides, str):
        raise ConfigError(f"overrides must be a list, such as [{overrides!r}], not a string")
    folder = None if data_dir is None else Path(data_dir).expanduser()
    settings = {"protocol": protocol, "overrides": tuple(overrides), "data_dir": folder}
    return prepare(Request(attentions=[attention], tasks=[task], seeds=[seed], **settings))


def load(run: str | Path) -> Loaded:
    """The record, the configuration and the best weights of a finished run. run: the path of its record.

    Raises RecordError or WorkError when the record or the weights are missing or damaged, DataError or ConfigError when
    the task, the backbone or the configuration of the run cannot be used any more.
    """
    from lra.errors import RecordError
    from lra.experiments.load import load_run

    if Path(run).is_dir():
        raise RecordError(f"{run} is a folder: name one record in it; lra.records reads all of them")
    return load_run(Path(run))
