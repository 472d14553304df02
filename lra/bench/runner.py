"""Time and memory of attentions against length: which cells, each in a process of its own, alone on the device."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from lra.bench import workload
from lra.bench.idle import alone_on, device_lock, free_bytes
from lra.bench.workload import Job
from lra.console import say
from lra.results.bench_record import Bench, FAILED, NO_MEMORY, TOO_SLOW, UNIFORM, save

ROOT = Path(__file__).resolve().parents[2]
LENGTHS = {"cpu": (256, 512, 1024, 2048, 4096)}  # doublings, by default
LONG = (256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536)
PUBLISHED = (1000, 2000, 3000, 4000)  # of the LRA paper's efficiency tables, with batches of 32
CPU_BATCH = 4
COMMAND = [sys.executable, "-m", "lra.bench.measure"]
GRACE_SECONDS = 240.0  # beyond twice its budget, for imports, data, compilation and counting, before a cell is stopped
MEMORY_SHARE = 0.9  # of the memory that is free, for a cell on the CPU


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ask:
    """What the user asked for; fields as in `Job`. lengths empty: the device's doublings. tasks: instead of lengths."""

    attentions: list[str]
    lengths: list[int]
    tasks: list[str]
    modes: list[str]
    batch: int
    gear: str
    device: str
    protocol: str
    overrides: tuple[str, ...]
    data_dir: str
    repeats: int
    budget: float
    memory: float  # GB, 0: what is free
    threads: int


def plan(ask: Ask) -> list[Job]:
    """Every cell, lengths rising. Raises SpecError, DataError or ConfigError, before anything is measured."""
    from lra.training.device import choose_device

    kind = choose_device(ask.device).type
    shapes = [(task, 0) for task in workload.task_names(ask.tasks)]
    shapes = shapes or [(UNIFORM, length) for length in sorted(set(ask.lengths or LENGTHS.get(kind, LONG)))]
    batch = ask.batch or (CPU_BATCH if kind == "cpu" else 0)
    memory = int(1e9 * ask.memory) or int(MEMORY_SHARE * free_bytes())
    jobs = [
        Job(
            spec=spec,
            row=row,
            shape=shape,
            length=length,
            batch=batch,
            mode=mode,
            gear=ask.gear,
            device=ask.device,
            protocol=ask.protocol,
            overrides=ask.overrides,
            data_dir=ask.data_dir,
            repeats=ask.repeats,
            budget=ask.budget,
            memory=memory,
            threads=ask.threads,
        )
        for spec, row in workload.rows_of(ask.attentions).items()
        for mode in ask.modes
        for shape, length in shapes
    ]
    for job in jobs:
        workload.resolve(job)
    return jobs


def run(ask: Ask, out: Path) -> Iterator[Bench]:
    """Measures cell by cell and writes each record at once; yields them in order.

    Raises SpecError, DataError, ConfigError, RecordError, or BusyError when another bench is on the device.
    """
    jobs = plan(ask)
    alone = alone_on(ask.device)
    slow: dict[tuple[str, str, str], int] = {}
    with device_lock(ask.device):
        for number, job in enumerate(jobs, 1):
            title = f"[{number}/{len(jobs)}] {job.row} {job.length or ''} {job.shape} {job.mode}".replace("  ", " ")
            key = (job.row, job.shape, job.mode)
            if key in slow:
                bench = unmeasured(job, TOO_SLOW, f"not tried: {slow[key]:,} tokens were over the budget")
            else:
                bench = measure_apart(job)
            if bench.status == TOO_SLOW and job.shape == UNIFORM:
                slow.setdefault(key, job.length)
            bench = dataclasses.replace(bench, environment={**bench.environment, "alone": alone})
            save(bench, out)
            say(f"{title}: {outcome(bench)}")
            yield bench


def outcome(bench: Bench) -> str:
    """A cell in a few words."""
    if bench.median is None:
        return f"{bench.status}{': ' if bench.reason else ''}{bench.reason}"
    return f"{1000 * bench.median:,.1f} ms a step, {(bench.step_bytes or 0) / 1e6:,.0f} MB"


def measure_apart(job: Job) -> Bench:
    """The cell in a process of its own; its end, however it ends, is a record."""
    limit = 2 * job.budget + GRACE_SECONDS
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    threads = {"OMP_NUM_THREADS": str(job.threads)} if job.threads else {}
    try:
        done = subprocess.run(
            COMMAND,
            input=json.dumps(dataclasses.asdict(job)),
            capture_output=True,
            text=True,
            timeout=limit,
            env={**os.environ, "PYTHONPATH": path, **threads},
        )
    except subprocess.TimeoutExpired:
        return unmeasured(job, TOO_SLOW, f"stopped after {limit:.0f} s, start included")
    if done.returncode == 0:
        return Bench(**json.loads(done.stdout.splitlines()[-1]))
    if done.returncode == -9:
        return unmeasured(job, NO_MEMORY, "the system stopped it")
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return unmeasured(job, FAILED, last[:500])


def unmeasured(job: Job, status: str, reason: str) -> Bench:
    """The record of a cell without figures."""
    from lra.results.machine import environment
    from lra.training.device import choose_device, choose_precision

    cell, device = workload.resolve(job), choose_device(job.device)
    precision = choose_precision(cell.config.train.precision, device)
    known = workload.about(job, dataclasses.replace(cell, precision=precision))
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    about = environment(device) | ({"threads": job.threads} if job.threads else {})
    return Bench(status=status, reason=reason, **known, environment=about, created=now)
