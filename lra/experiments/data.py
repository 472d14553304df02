"""A task's data and its ladder, found or made, verified and ready for training."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import tasks
from lra.config.protocol import read_protocol, sections_of
from lra.config.resolve import resolve
from lra.config.schema import Config
from lra.console import say, say_once
from lra.errors import WorkError, suggestion
from lra.experiments.backbone import find_backbone, owners

if TYPE_CHECKING:
    from lra.training.distributed import Group
    from lra.training.run_folder import NoFolder, RunFolder

T = TypeVar("T")
LONG = 3600.0  # seconds; the data of a run that took longer is verified again before its record is written
REPEATED = 5.0  # seconds; a user's task that prepares its data faster is prepared twice, to compare the results


@dataclass(frozen=True)
class TaskData:
    """A task's data and its ladder: the accuracies of trivial answers."""

    data: tasks.Data
    ladder: dict[str, float]


def find_task(spec: str, *, silent: bool = False) -> tasks.Task:
    """The task of this name, or in this user's file. Raises DataError.

    Settings of the whole process that importing a user's file changes, such as PyTorch's, are restored, after a line
    that names them unless `silent`.
    """
    if not spec.endswith(".py"):
        return tasks.find(spec)
    from attention_zoo import process

    with process.kept(search=False) as touched:
        task = tasks.find(spec)
    if touched and not silent:
        say(process.taken_back(Path(spec), touched, "set it in `prepare`, and back"))
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
    if protocol.endswith((".yaml", ".yml")):
        _name_strays(protocol)
    return resolve(protocol, task.name, overrides, task.settings, task.section, find_backbone, owners())


def _name_strays(protocol: str) -> None:
    """Names the task sections of a protocol that are probably misspelt: no task has the name, but one a similar one."""
    for name in sections_of(protocol, read_protocol(protocol)):
        known = tasks.names()
        if name not in known and tasks.file_of(name) is None and (near := suggestion(name, known, cutoff=0.75)):
            say_once(f"protocol {protocol}: its section tasks.{name} is not used, because there is no such task{near}")


def load_task_data(task_name: str, config: Config, data_dir: Path | None) -> TaskData:
    """The data and the ladder of a task, from the cache where it has them. Raises DataError."""
    data = prepare_data(task_name, config, data_dir)
    return TaskData(data, _call(task_name, "climb", lambda: tasks.find(task_name).ladder(data)))


def climb(task_name: str, data: tasks.Data) -> dict[str, float]:
    """The ladder of a task's data, computed anew. Raises DataError."""
    return _call(task_name, "climb", lambda: tasks.find(task_name).climbed(data))


def prepare_data(task_name: str, config: Config, data_dir: Path | None) -> tasks.Data:
    """Finds or generates, verifies and encodes the data that a configuration asks for. Raises DataError."""
    task = tasks.find(task_name)

    def prepare() -> tasks.Data:
        made = _call(
            task_name, "prepare", lambda: task.prepare(config.data, data_dir, tasks.cache_folder(), progress=True)
        )
        if not isinstance(made, tasks.Data) or not {"task", "label", "source", "rows"} <= {*made.about}:
            where = tasks.file_of(task_name) or task_name
            raise tasks.DataError(f"{where}: prepare must return what tasks.in_memory makes, not {str(made)[:100]}")
        return made

    started = time.monotonic()
    data = prepare()
    if tasks.file_of(task_name) and time.monotonic() - started < REPEATED and prepare().hash != data.hash:
        raise tasks.DataError(not_repeatable(task_name))
    return data


def check_intact(data: tasks.Data, group: Group, *, seconds: float = 0.0) -> None:
    """Verifies the stored arrays that a run reads, if a verification is due or the run has taken LONG.

    Every process of the group calls this. Raises WorkError where an array is damaged.
    """
    fault = tasks.verify(data, now=seconds >= LONG) if group.rank == 0 else ""
    if fault := group.broadcast(fault):
        raise WorkError(
            f"{fault}; the same command prepares the data again, and restarts this run if its checkpoint may come from "
            "damaged data"
        )


def set_doubtful_aside(folder: RunFolder | NoFolder, data: tasks.Data, title: str) -> None:
    """Renames the checkpoint of a run that may have been trained on damaged data, so that it is not used, and says so.

    Only process 0 of a group has checkpoints; in the others this does nothing.
    """
    from lra.training.run_folder import RunFolder

    if isinstance(folder, RunFolder) and (kept := folder.set_aside(lambda written: tasks.is_doubtful(data, written))):
        say(
            f"{title}: its checkpoint may come from damaged data and is not used ({kept.name} stays until the run ends)"
        )


def not_repeatable(task_name: str) -> str:
    """The message about a user's task whose data are not a function of its settings."""
    return (
        f"{tasks.file_of(task_name)}: prepare makes different data at each call, so that no run can be repeated or "
        "resumed; draw random numbers from a seed, np.random.default_rng(0)"
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
        note = f"; unpacked from an archive: if {data.folder} is deleted, the data are downloaded or generated"
    elif data.about["label"] == "generated" and _has_other_data(task_name):
        note += "; this machine also has data prepared from files: select it with --data-dir or LRA_DATA"
    return f"{task_name}: {data.about['label']} ({data.about['source']}{note}), {rows} samples, hash {data.hash}"


def _has_other_data(task_name: str) -> bool:
    """Does the cache hold data of the task that was not generated here?"""
    return any(data.about["label"] != "generated" for data in tasks.prepared(tasks.cache_folder(), task_name))
