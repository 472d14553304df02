"""Time and memory of attentions against length: plans the timings and measures each in a process of its own."""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import tasks
from lra.bench import workload
from lra.bench.idle import alone_on, device_lock
from lra.bench.processes import end, start, wait
from lra.bench.workload import Timing
from lra.console import say
from lra.errors import ConfigError
from lra.experiments.data import expand_tasks
from lra.results.bench_record import FAILED, NO_MEMORY, TOO_SLOW, UNIFORM, Bench, save
from lra.training.cores import affinity, free_bytes, physical_cores, threads_per_process, usable_cores

if TYPE_CHECKING:
    import torch

LENGTHS = (256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536)
PUBLISHED = (1000, 2000, 3000, 4000)  # the lengths of the LRA paper's efficiency tables, in batches of 32
CPU_BATCH = 4
COMMAND = [sys.executable, "-m", "lra.bench.measure"]
GRACE_SECONDS = 240.0  # for imports, data, compilation and counting, beyond twice the budget of a timing
MEMORY_SHARE = 0.9  # of the free memory that a timing on the CPU may take


@dataclass(frozen=True, kw_only=True)
class BenchRequest:
    """What the user asked for: each attention in each mode and gear, at each length or on each task.

    lengths: empty for the doublings that suit the device. tasks: measured instead of lengths. template: what all
    timings share. With `template.whole_run`, steps of whole runs are timed, on the five tasks by default; 0 processes
    then mean one for each free core, and modes are ignored.
    """

    attentions: list[str]
    lengths: list[int] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    modes: list[str] = field(default_factory=lambda: ["training"])
    gears: list[str] = field(default_factory=lambda: ["auto"])
    template: Timing = field(default_factory=Timing)


def plan(request: BenchRequest) -> list[Timing]:
    """All timings, by rising length. Raises SpecError, DataError or ConfigError before anything is measured."""
    from lra.training.device import choose_device

    device = choose_device(request.template.device)
    kind, template = device.type, shared_by(request.template, device)
    timings = plan_whole_runs(request, template, kind) if template.whole_run else plan_steps(request, template, kind)
    for timing in timings:
        workload.resolve(timing)
    return timings


def plan_steps(request: BenchRequest, template: Timing, kind: str) -> list[Timing]:
    """The timings of steps, not of whole runs. kind: of the device."""
    shapes = [(task, 0) for task in expand_tasks(request.tasks)]
    lengths = request.lengths or (LENGTHS[:5] if kind == "cpu" else LENGTHS)
    shapes = shapes or [(UNIFORM, length) for length in sorted(set(lengths))]
    template = replace(template, batch=template.batch or (CPU_BATCH if kind == "cpu" else 0))
    return [
        replace(template, spec=spec, row=row, mode=mode, gear=gear, shape=shape, length=length, file=users_file(shape))
        for spec, row in workload.rows_of(request.attentions).items()
        for mode in request.modes
        for gear in request.gears
        for shape, length in shapes
    ]


def users_file(shape: str) -> str:
    """The file of a user's task, for the process that measures; '' for any other shape."""
    return str(tasks.file_of(shape) or "")


def shared_by(template: Timing, device: torch.device) -> Timing:
    """The template with its defaults for this device filled in. Raises ConfigError."""
    if template.processes > 1 and device.type != "cpu":
        raise ConfigError("--processes shares a step among the cores of a CPU; leave it out on a GPU")
    one_each = device.type == "cpu" and (template.processes > 1 or template.whole_run)
    threads = template.threads or (threads_per_process() if one_each else 0)
    return replace(template, memory=template.memory or int(MEMORY_SHARE * free_bytes()), threads=threads)


def plan_whole_runs(request: BenchRequest, template: Timing, kind: str) -> list[Timing]:
    """Timings of training in one process and in as many as a run would have, and of evaluation in as many.

    On the first task the start with an empty compiler's cache is timed, too.
    """
    most = 1
    if kind == "cpu":
        most = template.processes or max(1, usable_cores() // template.threads)
    tasks_asked = expand_tasks(request.tasks) or list(tasks.ARENA)
    timings = []
    for spec, row in workload.rows_of(request.attentions).items():
        for gear in request.gears:
            for task in tasks_asked:
                training = replace(
                    template, spec=spec, row=row, gear=gear, shape=task, file=users_file(task), processes=1
                )
                if task == tasks_asked[0]:
                    timings.append(replace(training, cold=True, repeats=1))
                timings += [replace(training, processes=size) for size in dict.fromkeys((1, most))]
                timings.append(replace(training, mode="forward", processes=most))
    return timings


def measure_all(request: BenchRequest, out: Path) -> Iterator[Bench]:
    """Measures one timing after another, writes each record at once and yields it.

    Raises SpecError, DataError, ConfigError, RecordError, WorkError, or BusyError while another bench measures on
    the device.
    """
    from lra.training.device import choose_device

    timings, device = plan(request), choose_device(request.template.device)
    too_slow: dict[tuple[str, ...], int] = {}  # the shortest length that was over the budget
    with device_lock(device), contextlib.ExitStack() as stack:
        about = {"alone": alone_on(device), "cores": physical_cores(affinity())}
        caches: dict[tuple[str, ...], str] = {}  # folders that cold timings filled, for later timings
        for number, timing in enumerate(timings, 1):
            if timing.cold:
                folder = os.environ.get("TORCHINDUCTOR_CACHE_DIR")  # the command line has checked it
                cache = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=folder))
                caches[timing.row, timing.shape, timing.gear] = cache
            timing = replace(timing, cache=caches.get((timing.row, timing.shape, timing.gear), ""))
            key = (timing.row, timing.shape, timing.mode, timing.gear)
            if key in too_slow:
                bench = unmeasured(timing, TOO_SLOW, f"not tried: {too_slow[key]:,} tokens were over the budget")
            else:
                bench = measure_apart(timing)
            if bench.status == TOO_SLOW and timing.shape == UNIFORM:
                too_slow.setdefault(key, timing.length)
            bench = replace(bench, environment={**bench.environment, **about})
            save(bench, out)
            say(f"[{number}/{len(timings)}] {title(timing)}: {outcome(bench)}")
            yield bench


def title(timing: Timing) -> str:
    """A timing in a few words."""
    shape = f"{timing.length} tokens" if timing.shape == UNIFORM else timing.shape
    words = [timing.row, shape, timing.mode] + [timing.gear] * (timing.gear != "auto")
    words += [f"{timing.processes} processes"] * (timing.processes > 1) + ["empty compiler's cache"] * timing.cold
    return ", ".join(words)


def outcome(bench: Bench) -> str:
    """A result in a few words."""
    if bench.median is None:
        return f"{bench.status}{': ' if bench.reason else ''}{bench.reason}"
    return f"{1000 * bench.median:,.1f} ms a step, {(bench.step_bytes or 0) / 1e6:,.0f} MB"


def measure_apart(timing: Timing) -> Bench:
    """Measures a timing in separate processes, usually one; returns a record however they end."""
    limit = 2 * timing.budget + GRACE_SECONDS
    processes = start(COMMAND, timing)
    try:
        wait(processes, limit)
    finally:
        end(processes)
    ended = [process for process in processes if not process.stopped]
    worst = min(ended, key=lambda process: (-process.severity, process.rank), default=None)
    if worst is None or (worst.severity == 0 and len(ended) < len(processes)):
        return unmeasured(timing, TOO_SLOW, f"stopped after {limit:.0f} s, start included")
    if worst.bench is not None:
        return worst.bench
    if worst.code == -9:
        return unmeasured(timing, NO_MEMORY, "the system stopped it")
    last = (worst.errors.strip().splitlines() or [f"exit code {worst.code}"])[-1]
    return unmeasured(timing, FAILED, last[:500])


def unmeasured(timing: Timing, status: str, reason: str) -> Bench:
    """The record of a timing that has no figures. reason: why it has none."""
    from lra.results.machine import environment
    from lra.training.device import choose_device, choose_precision

    run, device = workload.resolve(timing), choose_device(timing.device)
    precision = choose_precision(run.config.train.precision, device)
    known = workload.about(timing, replace(run, precision=precision))
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    machine = environment(device) | ({"threads": timing.threads} if timing.threads else {})
    return Bench(status=status, reason=reason, **known, environment=machine, created=now)
