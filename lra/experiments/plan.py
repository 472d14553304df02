"""What is asked for: attentions x tasks x seeds under a protocol, as cells; no torch for built-ins."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import attention_zoo
import tasks
from lra.config import resolve as configuration
from lra.config.protocol import deviations_of
from lra.config.resolve import Config
from lra.errors import ConfigError
from lra.experiments.data import resolve_for
from lra.experiments.run import Cell

ARENA = ("listops", "text", "retrieval", "image", "pathfinder")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for. A task may be `all`: the five of the Arena, as far as their data can be had; an
    attention may be `all`: every built-in one.

    devices: one process for each, as "0-3,6" or "cuda:0"; jobs: so many processes on `device`; neither: this process.
    shard: (i, n), from 1: the i-th of n parts of the cells, for a job array. match_params: beside each row one with as
    many parameters as softmax.
    track: tensorboard or wandb, which then get the progress of every cell, too.
    """

    attentions: list[str]
    tasks: list[str]
    seeds: list[int]
    protocol: str = "standard"
    overrides: tuple[str, ...] = ()
    out: Path = Path("results/runs")
    data_dir: Path | None = None
    device: str = "auto"
    devices: str = ""
    jobs: int = 1
    shard: tuple[int, int] = (1, 1)
    match_params: bool = False
    track: str = ""

    @property
    def places(self) -> list[str]:
        """The device of each process, or nothing where this process does it all. Raises ConfigError."""
        if self.jobs < 1:
            raise ConfigError(f"--jobs takes a number from 1, not {self.jobs}")
        if self.devices and self.jobs > 1:
            raise ConfigError("--devices already starts a process for each device; leave --jobs out")
        if self.devices:
            return parse_devices(self.devices)
        return [self.device] * self.jobs if self.jobs > 1 else []


def parse_devices(text: str) -> list[str]:
    """'0-2,5' -> ['cuda:0', 'cuda:1', 'cuda:2', 'cuda:5']; names such as 'cuda:1' stay. Raises ConfigError."""
    found: list[str] = []
    for part in text.split(","):
        numbers = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if numbers:
            first, last = int(numbers[1]), int(numbers[2] or numbers[1])
            found += [f"cuda:{number}" for number in range(first, last + 1)]
        elif re.fullmatch(r"cuda:\d+", part.strip()):
            found.append(part.strip())
    if not found or len(set(found)) != len(found) or len(found) < text.count(",") + 1:
        raise ConfigError(f"--devices takes each GPU once, as in 0-7 or 0,2,5, not {text!r}; on a CPU: --jobs 2")
    return found


def parse_shard(text: str) -> tuple[int, int]:
    """'2/8' -> (2, 8): the second of eight. Raises ConfigError."""
    numbers = re.fullmatch(r"(\d+)/(\d+)", text)
    if not numbers or not 1 <= int(numbers[1]) <= int(numbers[2]):
        raise ConfigError(f"--shard takes i/n with i from 1 to n, as in 1/4, not {text!r}")
    return int(numbers[1]), int(numbers[2])


def plan(request: Request) -> list[Cell]:
    """Every cell asked for, once, in order. Raises SpecError, DataError or ConfigError; no torch for built-ins."""
    if min(request.seeds, default=0) < 0:
        raise ConfigError(f"--seed takes numbers from 0, not {min(request.seeds)}")
    names = [name for task in request.tasks for name in (ARENA if task == "all" else (tasks.find(task).name,))]
    configs = {task: _resolve(request, task) for task in dict.fromkeys(names)}
    specs = [spec for asked in request.attentions for spec in (attention_zoo.names() if asked == "all" else [asked])]
    found = [attention_zoo.find(spec) for spec in specs]
    fewest = min((config.model.layers for _, config in configs.values()), default=0)
    for entry, _ in found:
        if isinstance(entry, attention_zoo.Stack) and len(entry.parts) > fewest:
            raise attention_zoo.SpecError(
                f"{entry.name} names {len(entry.parts)} mechanisms for {fewest} layers; "
                f"give each one: --set model.layers={len(entry.parts)}"
            )
    deviations = deviations_of(request.protocol)
    cells = [
        Cell(
            task=task,
            attention=entry,
            options=options,
            spec=spec,
            row=row,
            protocol=label,
            config=config,
            seed=seed,
            deviations=deviations,
        )
        for task, (label, config) in configs.items()
        for spec, (entry, options), row in zip(specs, found, name_rows(found), strict=True)
        for seed in request.seeds
    ]
    return list({(cell.task, cell.row, cell.seed): cell for cell in cells}.values())


def part_of(cells: list[Cell], shard: tuple[int, int]) -> list[Cell]:
    """The i-th of n parts: every n-th cell in the plan's order, so that each part has its share of every task."""
    return cells[shard[0] - 1 :: shard[1]]


def part_of_rows(cells: list[Cell], shard: tuple[int, int]) -> list[Cell]:
    """The same by mechanism and task, all seeds of one together, since they share their pilots."""
    rows = list(dict.fromkeys((cell.task, cell.row) for cell in cells))[shard[0] - 1 :: shard[1]]
    return [cell for cell in cells if (cell.task, cell.row) in rows]


def _resolve(request: Request, task: str) -> tuple[str, Config]:
    """The protocol's name in tables, and the configuration of a task."""
    plain = resolve_for(task, request.protocol, [])
    config = resolve_for(task, request.protocol, list(request.overrides))
    return configuration.label_of(request.protocol, config, plain), config


def name_rows(found: list[tuple[attention_zoo.Entry, dict[str, Any]]]) -> list[str]:
    """Names for tables; files that share a name get the first digits of their hashes: mine@ab12."""
    files = {(entry.name, entry.address) for entry, _ in found}
    shared = {name for name, count in Counter(name for name, _ in files).items() if count > 1}
    rows = []
    for entry, options in found:
        if entry.name in shared:
            entry = replace(entry, name=f"{entry.name}@{entry.source_hash[:4]}")
        rows.append(entry.row(options))
    return rows
