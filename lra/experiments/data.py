"""A task's data and its ladder, found or made, verified and ready for training."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import tasks
from lra.config.resolve import resolve
from lra.config.schema import Config
from lra.console import say
from lra.experiments.backbone import find_backbone, owners

T = TypeVar("T")
REPEATED = 5.0  # seconds; a user's task that prepares faster than this is prepared twice, to compare


@dataclass(frozen=True)
class TaskData:
    """A task's data and its ladder: the accuracies of trivial answers."""

    data: tasks.Data
    ladder: dict[str, float]


def find_task(spec: str, *, silent: bool = False) -> tasks.Task:
    """The task of this name, or in this user's file. Raises DataError.

    What importing a user's file changes for the whole process, such as PyTorch's settings, is taken back, after a line
    that names it unless `silent`.
    """
    if not spec.endswith(".py"):
        return tasks.find(spec)
    from attention_zoo._process import kept, taken_back  # torch

    with kept(search=False) as touched:
        task = tasks.find(spec)
    if touched and not silent:
        say(taken_back(Path(spec), touched, "set it in `prepare`, and back"))
    return task


def expand_tasks(specs: Sequence[str]) -> list[str]:
    """As `tasks.expand`, with users' files imported as `find_task` does. Raises DataError."""
    for spec in specs:
        if spec.endswith(".py"):
            find_task(spec)
    return tasks.expand(specs)


def resolve_for(task_name: str, protocol: str, overrides: list[str]) -> Config:
    """The configuration of a task under a protocol. Raises DataError or ConfigError."""
    task = tasks.find(task_name)
    return resolve(protocol, task.name, overrides, task.settings, task.section, find_backbone, owners())


def load_task_data(task_name: str, config: Config, data_dir: Path | None) -> TaskData:
    """The data and the ladder of a task, from the cache where it has them. Raises DataError."""
    data = prepare_data(task_name, config, data_dir)
    return TaskData(data, _call(task_name, "ladder", lambda: tasks.find(task_name).ladder(data)))


def prepare_data(task_name: str, config: Config, data_dir: Path | None) -> tasks.Data:
    """Finds or generates, verifies and encodes the data that a configuration asks for. Raises DataError."""
    task = tasks.find(task_name)

    def prepare() -> tasks.Data:
        return _call(
            task_name, "prepare", lambda: task.prepare(config.data, data_dir, tasks.cache_folder(), progress=True)
        )

    started = time.monotonic()
    data = prepare()
    if tasks.file_of(task_name) and time.monotonic() - started < REPEATED and prepare().hash != data.hash:
        raise tasks.DataError(not_repeatable(task_name))
    return data


def not_repeatable(task_name: str) -> str:
    """What is wrong with a user's task whose data are not a function of its settings."""
    return (
        f"{tasks.file_of(task_name)}: prepare makes other data every time, so that no run can be repeated or resumed; "
        "draw random numbers from a seed, np.random.default_rng(0)"
    )


def _call(task_name: str, method: str, work: Callable[[], T]) -> T:
    """Calls a method of a task; an error in a user's file becomes a DataError with the line."""
    try:
        return work()
    except tasks.DataError:
        raise
    except Exception as error:
        file = tasks.file_of(task_name)
        if file is None:
            raise
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        where = f"{file}, line {lines[-1]}" if lines else str(file)
        raise tasks.DataError(f"{where}: {method} fails: {type(error).__name__}: {error}") from error


def describe_data(task_name: str, data: tasks.Data, data_dir: Path | None) -> str:
    """One line: where the data come from, how many samples there are, their hash."""
    rows = " / ".join(f"{count:,}" for count in data.about["rows"].values())
    note = f"; nothing for it in {data_dir}" if data_dir and data.about["label"] == "generated" else ""
    if data.about["label"] != "generated" and (data.folder / tasks.UNPACKED).exists():
        note = f"; unpacked here: without {data.folder} it is downloaded or generated"
    elif data.about["label"] == "generated" and _has_other_data(task_name):
        note += "; data from files is prepared here, too: --data-dir or LRA_DATA takes it"
    return f"{task_name}: {data.about['label']} ({data.about['source']}{note}), {rows} samples, hash {data.hash}"


def _has_other_data(task_name: str) -> bool:
    """Is data of a task in the cache that was not generated here?"""
    return any(data.about["label"] != "generated" for data in tasks.prepared(tasks.cache_folder(), task_name))
