"""Time and memory of attentions against length: plans the timings and measures each in a process of its own."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from lra.bench import workload
from lra.bench.idle import alone_on, device_lock
from lra.bench.workload import Timing
from lra.console import say
from lra.experiments.data import expand_tasks
from lra.results.bench_record import FAILED, NO_MEMORY, TOO_SLOW, UNIFORM, Bench, save
from lra.training.cores import free_bytes

ROOT = Path(__file__).resolve().parents[2]
LENGTHS = {"cpu": (256, 512, 1024, 2048, 4096)}  # doublings, by default
LONG = (256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536)
PUBLISHED = (1000, 2000, 3000, 4000)  # the lengths of the LRA paper's efficiency tables, in batches of 32
CPU_BATCH = 4
COMMAND = [sys.executable, "-m", "lra.bench.measure"]
GRACE_SECONDS = 240.0  # for imports, data, compilation and counting, beyond twice the budget of a timing
MEMORY_SHARE = 0.9  # of the free memory that a timing on the CPU may take


@dataclass(frozen=True, kw_only=True)
class BenchRequest:
    """What the user asked for: each attention in each mode and gear, at each length or on each task.

    lengths: empty for the doublings that suit the device. tasks: measured instead of lengths. template: what all
    timings share.
    """

    attentions: list[str]
    lengths: list[int] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    modes: list[str] = field(default_factory=lambda: ["training"])
    gears: list[str] = field(default_factory=lambda: ["auto"])
    template: Timing = field(default_factory=Timing)


def plan(request: BenchRequest) -> list[Timing]:
    """Every timing, lengths rising. Raises SpecError, DataError or ConfigError before anything is measured."""
    from lra.training.device import choose_device

    template = request.template
    kind = choose_device(template.device).type
    shapes = [(task, 0) for task in expand_tasks(request.tasks)]
    shapes = shapes or [(UNIFORM, length) for length in sorted(set(request.lengths or LENGTHS.get(kind, LONG)))]
    template = replace(
        template,
        batch=template.batch or (CPU_BATCH if kind == "cpu" else 0),
        memory=template.memory or int(MEMORY_SHARE * free_bytes()),
    )
    timings = [
        replace(template, spec=spec, row=row, mode=mode, gear=gear, shape=shape, length=length)
        for spec, row in workload.rows_of(request.attentions).items()
        for mode in request.modes
        for gear in request.gears
        for shape, length in shapes
    ]
    for timing in timings:
        workload.resolve(timing)
    return timings


def measure_all(request: BenchRequest, out: Path) -> Iterator[Bench]:
    """Measures one timing after another, writes each record at once and yields it.

    Raises SpecError, DataError, ConfigError, RecordError, or BusyError while another bench measures on the device.
    """
    timings = plan(request)
    alone = alone_on(request.template.device)
    too_slow: dict[tuple[str, ...], int] = {}  # the shortest length that was over the budget
    with device_lock(request.template.device):
        for number, timing in enumerate(timings, 1):
            key = (timing.row, timing.shape, timing.mode, timing.gear)
            if key in too_slow:
                bench = unmeasured(timing, TOO_SLOW, f"not tried: {too_slow[key]:,} tokens were over the budget")
            else:
                bench = measure_apart(timing)
            if bench.status == TOO_SLOW and timing.shape == UNIFORM:
                too_slow.setdefault(key, timing.length)
            bench = replace(bench, environment={**bench.environment, "alone": alone})
            save(bench, out)
            say(f"[{number}/{len(timings)}] {title(timing)}: {outcome(bench)}")
            yield bench


def title(timing: Timing) -> str:
    """A timing in a few words."""
    shape = f"{timing.length} tokens" if timing.shape == UNIFORM else timing.shape
    return f"{timing.row}, {shape}, {timing.mode}" + ("" if timing.gear == "auto" else f", {timing.gear}")


def outcome(bench: Bench) -> str:
    """A result in a few words."""
    if bench.median is None:
        return f"{bench.status}{': ' if bench.reason else ''}{bench.reason}"
    return f"{1000 * bench.median:,.1f} ms a step, {(bench.step_bytes or 0) / 1e6:,.0f} MB"


def measure_apart(timing: Timing) -> Bench:
    """Measures in a process of its own; however that process ends, there is a record."""
    limit = 2 * timing.budget + GRACE_SECONDS
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    threads = {"OMP_NUM_THREADS": str(timing.threads)} if timing.threads else {}
    try:
        done = subprocess.run(
            COMMAND,
            input=json.dumps(dataclasses.asdict(timing)),
            capture_output=True,
            text=True,
            timeout=limit,
            env={**os.environ, "PYTHONPATH": path, **threads},
        )
    except subprocess.TimeoutExpired:
        return unmeasured(timing, TOO_SLOW, f"stopped after {limit:.0f} s, start included")
    if done.returncode == 0:
        return Bench(**json.loads(done.stdout.splitlines()[-1]))
    if done.returncode == -9:
        return unmeasured(timing, NO_MEMORY, "the system stopped it")
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return unmeasured(timing, FAILED, last[:500])


def unmeasured(timing: Timing, status: str, reason: str) -> Bench:
    """A record without figures, and why it has none."""
    from lra.results.machine import environment
    from lra.training.device import choose_device, choose_precision

    run, device = workload.resolve(timing), choose_device(timing.device)
    precision = choose_precision(run.config.train.precision, device)
    known = workload.about(timing, replace(run, precision=precision))
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    machine = environment(device) | ({"threads": timing.threads} if timing.threads else {})
    return Bench(status=status, reason=reason, **known, environment=machine, created=now)
