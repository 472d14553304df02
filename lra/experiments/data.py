"""A task's data, made ready for training; and the `data` command, which prepares and describes it."""

from __future__ import annotations

import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import tasks
from lra.config import resolve as configuration
from lra.config.resolve import Config
from lra.errors import ConfigError


@dataclass(frozen=True)
class Ready:
    """A task's data and the accuracies of its trivial answers."""

    data: tasks.Data
    ladder: dict[str, float]


def resolve_for(task_name: str, protocol: str, overrides: list[str]) -> Config:
    """The configuration of a task under a protocol. Raises DataError or ConfigError."""
    task = tasks.find(task_name)
    return configuration.resolve(protocol, task.name, overrides, task.settings, task.section)


def make_ready(task_name: str, config: Config, data_dir: Path | None) -> Ready:
    """Finds or generates, verifies and encodes, or takes what the cache has. Raises DataError."""
    data = prepare_for(task_name, config, data_dir)
    return Ready(data, tasks.find(task_name).ladder(data))


def describe_data(task_name: str, data: tasks.Data, data_dir: Path | None) -> str:
    """One line: where the data comes from, how much it is, its hash."""
    rows = " / ".join(f"{count:,}" for count in data.about["rows"].values())
    note = f"; nothing for it in {data_dir}" if data_dir and data.about["label"] == "generated" else ""
    if data.about["label"] == "official" and (data.folder / tasks.UNPACKED).exists():
        note = f"; unpacked here: without {data.folder} it is downloaded or generated"
    elif data.about["label"] == "generated" and _official(task_name):
        note += "; official data is prepared here, too: --data-dir or LRA_DATA takes it"
    return f"{task_name}: {data.about['label']} ({data.about['source']}{note}), {rows} samples, hash {data.hash}"


def _official(task_name: str) -> bool:
    """Has the cache official data of a task?"""
    return any(data.about["label"] == "official" for data in tasks.prepared(tasks.cache_folder(), task_name))


def prepare(task_name: str, protocol: str, overrides: list[str], data_dir: Path | None) -> tasks.Data:
    """Prepares a task's data as a protocol wants it. Raises DataError or ConfigError."""
    return prepare_for(task_name, resolve_for(task_name, protocol, overrides), data_dir)


def prepare_for(task_name: str, config: Config, data_dir: Path | None) -> tasks.Data:
    """Prepares a task's data as a resolved configuration wants it. Raises DataError."""
    try:
        return tasks.find(task_name).prepare(config.data, data_dir, tasks.cache_folder(), progress=True)
    except tasks.DataError:
        raise
    except Exception as error:
        file = tasks.file_of(task_name)
        if file is None:
            raise
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        where = f"{file}, line {lines[-1]}" if lines else str(file)
        raise tasks.DataError(f"{where}: prepare fails: {type(error).__name__}: {error}") from error


def climb(task_name: str, data: tasks.Data, store: Path | None) -> str:
    """Computes the ladder of a task's data afresh; writes it to `store`, too. Raises DataError or ConfigError."""
    task = tasks.find(task_name)
    rungs = task.climb(data)
    if task.networks:
        from lra.experiments.ladder import accuracy

        rungs |= {name: accuracy(network, data, f"{task.title}: {name}") for name, network in task.networks.items()}
    with suppress(OSError):
        tasks.store_ladder(data.folder, data, rungs)
    lines = [f"  {100 * accuracy:5.1f} %  {rung}" for rung, accuracy in rungs.items()]
    if store:
        try:
            lines.append(f"written to {tasks.store_ladder(store, data, rungs)}")
        except OSError as error:
            raise ConfigError(f"cannot write to {store}: {error.strerror}") from error
    return "\n".join(lines)


def status(task_name: str) -> str:
    """What the cache holds of a task: source, rows, hash, size, terms, leakage; or the command that prepares it."""
    found = tasks.prepared(tasks.cache_folder(), task_name)
    if not found and (getattr(tasks.find(task_name), "streamed", False) or tasks.file_of(task_name)):
        return f"{task_name}: generated while it is read, nothing to prepare"
    if not found:
        return f"{task_name}: not prepared; python run_lra.py data prepare --task {task_name} [--data-dir DIR]"
    lines = []
    for data in found:
        size = sum(path.stat().st_size for path in data.folder.iterdir())
        lines.append(f"{describe_data(task_name, data, None)}, {size / 1e6:,.0f} MB in {data.folder}")
        lines.append(f"  terms: {data.about.get('terms', 'generated here, none')}")
        for split, shares in data.about.get("leakage", {}).items():
            parts = ", ".join(f"{100 * share:.1f} % of {what}" for what, share in shares.items())
            lines.append(f"  also in training, of {split}: {parts}")
    return "\n".join(lines)
