"""What to run: a request, and the runs (attentions x tasks x seeds) that it asks for; no torch for built-ins."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attention_zoo
from lra.config.protocol import deviations_of
from lra.config.resolve import has_cut_warmup, label_of
from lra.config.schema import Config
from lra.console import say_once
from lra.errors import ConfigError, suggestion
from lra.experiments.backbone import find_backbone
from lra.experiments.data import expand_tasks, resolve_for
from lra.experiments.run import Run

if TYPE_CHECKING:
    from lra.training.progress import Progress

T = TypeVar("T")
ENGINES = ("local", "ray", "slurm")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for.

    tasks: names and files; `all` means the five tasks of the Arena, without those whose data are missing. attentions:
    specs; `all` means every built-in attention, `family:linear` every built-in attention of that family.
    devices: GPUs to run on, one run at a time on each: "0-3,6" or "cuda:0". jobs: how many runs at a time. processes:
    how many processes share each run, on a CPU. 0 leaves either number to the suite, which uses the free cores if the
    runs are long enough to be worth it.
    engine: where the runs are executed. local: on this machine. slurm: in a job array. ray: on the cluster at
    `address`, HOST:PORT, or auto or empty for the cluster of this machine. On a cluster each run gets `cpus_per_run`
    cores (0: one) and `gpus_per_run` GPUs (None: one if device is cuda, or auto on a cluster with GPUs; else none).
    shard: (i, n), from 1: the i-th of n parts of the runs, for a job array.
    match_params: adds to each row one with as many parameters as softmax has.
    track: tensorboard or wandb, which then also receives the progress of every run.
    observe: called after every step with the progress of the run, in this process. An exception in it makes the run a
    failed one, and the next run begins; KeyboardInterrupt stops the command.
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
    jobs: int = 0
    processes: int = 0
    engine: str = "local"
    address: str = ""
    gpus_per_run: float | None = None
    cpus_per_run: int = 0
    shard: tuple[int, int] = (1, 1)
    match_params: bool = False
    track: str = ""
    observe: Callable[[Progress], None] | None = None

    def __post_init__(self):
        if self.jobs < 0 or self.processes < 0:
            raise ConfigError(
                "--jobs and --processes take numbers from 1; leave them out for as many as there are cores"
            )
        if self.devices and (self.jobs or self.processes):
            raise ConfigError("--devices already starts a process for each device; leave --jobs and --processes out")
        if self.observe and (self.devices or self.jobs > 1 or self.processes > 1):
            raise ConfigError("observe sees only runs of this process: leave devices, jobs and processes out")
        check_engine(self)


def check_engine(request: Request) -> None:
    """Raises ConfigError for an unknown engine, and for options that do not belong to this one."""
    if request.engine not in ENGINES:
        near = suggestion(request.engine, ENGINES)
        raise ConfigError(f"unknown engine {request.engine!r}{near}; there are {', '.join(ENGINES)}")
    given = {
        "--address": request.address,
        "--gpus-per-run": request.gpus_per_run is not None,
        "--cpus-per-run": request.cpus_per_run,
    }
    if request.engine != "ray":
        if wrong := [option for option, value in given.items() if value]:
            raise ConfigError(f"{wrong[0]} works only with --engine ray; add it")
        return
    if request.devices or request.jobs or request.processes:
        raise ConfigError(
            "--engine ray takes what the cluster has; leave --devices, --jobs and --processes out: --gpus-per-run and "
            "--cpus-per-run say what each run gets"
        )
    if request.observe:
        raise ConfigError("observe sees only runs of this process: leave engine out")
    if request.device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--engine ray chooses the devices itself; --device is cpu or cuda, not {request.device!r}")
    if request.device == "cpu" and request.gpus_per_run:
        raise ConfigError("--gpus-per-run gives each run a GPU, and --device cpu none; leave one of them out")
    if request.device == "cuda" and request.gpus_per_run == 0:
        raise ConfigError("--device cuda needs a GPU for each run, or a share of one: --gpus-per-run 1")


def parse_devices(text: str) -> list[str]:
    """'0-2,5' -> ['cuda:0', 'cuda:1', 'cuda:2', 'cuda:5']; names such as 'cuda:1' stay. Raises ConfigError."""
    devices: list[str] = []
    for part in text.split(","):
        numbers = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip())
        if numbers:
            first, last = int(numbers[1]), int(numbers[2] or numbers[1])
            devices += [f"cuda:{number}" for number in range(first, last + 1)]
        elif re.fullmatch(r"cuda:\d{1,4}", part.strip()):
            devices.append(part.strip())
    if not devices or len(set(devices)) != len(devices) or len(devices) < text.count(",") + 1:
        raise ConfigError(f"--devices takes each GPU once, as in 0-7 or 0,2,5, not {text[:60]!r}; on a CPU: --jobs 2")
    return devices


def parse_shard(text: str) -> tuple[int, int]:
    """'2/8' -> (2, 8): the second of eight. Raises ConfigError."""
    numbers = re.fullmatch(r"(\d+)/(\d+)", text)
    if not numbers or not 1 <= int(numbers[1]) <= int(numbers[2]):
        raise ConfigError(f"--shard takes i/n with i from 1 to n, as in 1/4, not {text!r}")
    return int(numbers[1]), int(numbers[2])


def plan(request: Request) -> list[Run]:
    """The runs of a request, each once, by task, attention and seed. Raises SpecError, DataError or ConfigError."""
    if min(request.seeds, default=0) < 0:
        raise ConfigError(f"--seed takes numbers from 0, not {min(request.seeds)}")
    configs = {task: _resolve(request, task) for task in expand_tasks(request.tasks)}
    specs = expand_attentions(request.attentions)
    attentions = [attention_zoo.find(spec) for spec in specs]
    check_layers([entry for entry, _ in attentions], [config for _, config in configs.values()])
    deviations = deviations_of(request.protocol)
    runs = [
        Run(
            task=task,
            attention=entry,
            options=options,
            spec=spec,
            row=row,
            protocol=label,
            config=config,
            backbone=find_backbone(config.model.backbone),
            seed=seed,
            deviations=deviations,
        )
        for task, (label, config) in configs.items()
        for spec, (entry, options), row in zip(specs, attentions, name_rows(attentions), strict=True)
        for seed in request.seeds
    ]
    return distinct(runs)


def distinct(runs: Iterable[Run]) -> list[Run]:
    """The runs, one for each `Run.key`."""
    return [*{run.key: run for run in runs}.values()]


def expand_attentions(specs: list[str]) -> list[str]:
    """Specs, with built-in attentions in place of `all` and `family:NAME`. Raises SpecError for an unknown family."""
    return [spec for asked in specs for spec in _expand(asked)]


def _expand(asked: str) -> list[str]:
    if asked == "all":
        return attention_zoo.names()
    word, colon, family = asked.partition(":")
    if (word, bool(colon)) != ("family", True):
        return [asked]
    if not family:
        listing = f"there are {', '.join(attention_zoo.FAMILIES)}"
        raise attention_zoo.SpecError(f"family: needs the name of a family, as in family:linear; {listing}")
    return attention_zoo.names(family)


def check_layers(entries: list[attention_zoo.Entry], configs: list[Config]) -> None:
    """Raises SpecError for a hybrid with more attentions than a model has layers."""
    fewest = min((config.model.layers for config in configs), default=0)
    for entry in entries:
        if isinstance(entry, attention_zoo.Stack) and not entry.by_stage and len(entry.parts) > fewest:
            raise attention_zoo.SpecError(
                f"{entry.name} names {len(entry.parts)} mechanisms for {fewest} layers; "
                f"give each one: --set model.layers={len(entry.parts)}"
            )


def part_of(runs: list[T], shard: tuple[int, int]) -> list[T]:
    """The i-th of n parts: every n-th run in the plan's order, so that each part has its share of every task."""
    return runs[shard[0] - 1 :: shard[1]]


def part_of_rows(runs: list[Run], shard: tuple[int, int]) -> list[Run]:
    """The i-th of n parts, by task and row: all seeds of a row are in one part, because they share their pilots."""
    rows = list(dict.fromkeys((run.task, run.row) for run in runs))[shard[0] - 1 :: shard[1]]
    return [run for run in runs if (run.task, run.row) in rows]


def _resolve(request: Request, task: str) -> tuple[str, Config]:
    """The name of the protocol in tables, overrides included, and the configuration of a task."""
    plain = resolve_for(task, request.protocol, [])
    config = resolve_for(task, request.protocol, list(request.overrides))
    if has_cut_warmup(config, plain) and not any(text.startswith("train.warmup=") for text in request.overrides):
        say_once(
            f"{task}: the warm-up is cut to {config.train.warmup} of {config.train.steps} steps, its share in the "
            f"protocol ({plain.train.warmup} of {plain.train.steps}); --set train.warmup=... gives it another length"
        )
    return label_of(request.protocol, config, plain), config


def name_rows(found: list[tuple[attention_zoo.Entry, dict[str, Any]]]) -> list[str]:
    """The rows' names in tables; files that share a name get the first digits of their hashes: mine@ab12."""
    files = {(entry.name, entry.address) for entry, _ in found}
    shared = {name for name, count in Counter(name for name, _ in files).items() if count > 1}
    rows = []
    for entry, options in found:
        if entry.name in shared:
            entry = replace(entry, name=f"{entry.name}@{entry.source_hash[:4]}")
        rows.append(entry.row(options))
    return rows
