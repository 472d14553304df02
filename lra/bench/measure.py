"""One cell of a bench, measured: `measure(job)`, or, in a process of its own, job in and record out as JSON.

    python -m lra.benchcell < job.json > record.json

A process of its own has a peak of memory of its own, and can run out of it, or be stopped, without harm to the others.
"""

import dataclasses
import datetime
import json
import math
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from lra.backbones.weights import count_parameters
from lra.bench import workload
from lra.bench.workload import Job, Workload
from lra.errors import CountError
from lra.experiments.run import make_model, make_padding
from lra.results.bench_record import DONE, FAILED, NO_MEMORY, TOO_SLOW, Bench
from lra.results.machine import environment, held_bytes, peak_bytes, reset_peak
from lra.training.batches import documents, micro_batches, order, sizes
from lra.training.device import Device, Padding, choose_device, choose_precision, set_backends
from lra.training.step import Step

BLOCK_SECONDS = 0.1  # a repeat holds as many steps as take this long, so that the clock and one wait do not count
WARM_SECONDS = 0.5
MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "alloc_cpu")


def measure(job: Job) -> Bench:
    """Times a cell and its memory. Raises SpecError, DataError or ConfigError; running out of memory is a result."""
    if job.threads:
        torch.set_num_threads(job.threads)
    cell = workload.resolve(job)
    device = choose_device(job.device)
    cell = dataclasses.replace(cell, precision=choose_precision(cell.config.train.precision, device))
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    known: dict[str, Any] = {**workload.about(job, cell), "environment": environment(device), "created": now}
    try:
        bench = Bench(status=DONE, **known)
        return dataclasses.replace(bench, **run(job, workload.prepare(job, cell), device))
    except (RuntimeError, MemoryError) as error:
        words = " ".join(str(error).split())
        lacking = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(w in words for w in MEMORY_WORDS)
        reason = "" if lacking else f"{type(error).__name__}: {words[:300]}"
        return Bench(status=NO_MEMORY if lacking else FAILED, reason=reason, **known)


def limit_memory(size: int) -> None:
    """Lets the process take this many bytes more, so that it fails itself before the machine has to stop something."""
    if size and (held := held_bytes(torch.device("cpu"))):
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (held + size, hard))


def run(job: Job, load: Workload, device: torch.device) -> dict[str, Any]:
    """The measured fields."""
    cell = load.cell
    set_backends(cell.config.train.deterministic)
    padding = make_padding(cell, load.spec)
    model = make_model(cell, load.spec).to(device)
    train = cell.config.train
    if device.type == "cpu" and train.gear == "auto":  # minutes of compiling for seconds of measuring: if asked for
        train = dataclasses.replace(train, gear="eager")
    step = Step(model, train, Device(device, cell.precision), padding, cell.seed)

    def rows(number: int) -> np.ndarray:
        return order(len(load.samples.labels), cell.config.train.batch, 0, number)

    training, computed = job.mode == "training", [0]

    def act(number: int) -> None:
        if training:
            step(load.samples, rows(number), number)
            computed.append(step.computed_tokens)
        else:
            step.evaluate(load.samples, rows(number))

    fields = clock(act, job, device)
    first, last = fields.pop("first"), fields.pop("last")
    batches = [rows(number) for number in range(first, last)]
    sums = (
        computed[last] - computed[first]
        if training
        else sum(padded(load, rows, padding, device.type) for rows in batches)
    )
    real = sum(int(load.samples.lengths[documents(load.samples, rows)].sum()) for rows in batches)
    fields |= {"computed_tokens": sums / len(batches), "real_tokens": real / len(batches)}
    fields |= {"length": cell.length(load.spec), "parameters": count_parameters(model)}
    fields |= {"environment": environment(device, step.gears.name)}
    return fields | operations(load, batches, padding, model, training)


def clock(act: Callable[[int], None], job: Job, device: torch.device) -> dict[str, Any]:
    """Warms up, then times `repeats` blocks of steps, fewer when the budget ends; first, last: the steps timed.

    The budget begins after the very first step, which may compile.
    """

    def timed(first: int, steps: int) -> float:
        started = time.perf_counter()
        for number in range(first, first + steps):
            act(number)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    start, begun = timed(0, 1), time.perf_counter()
    single, number = timed(1, 1), 2
    if single > job.budget:
        reason = f"a step took {single:.1f} s of {job.budget:g} s"
        return {"status": TOO_SLOW, "reason": reason, "start_seconds": start, "first": 1, "last": 2}
    warm = time.perf_counter()
    while time.perf_counter() - warm < min(WARM_SECONDS, job.budget / 10):
        single, number = min(single, timed(number, 1)), number + 1
    steps = max(1, math.ceil(BLOCK_SECONDS / single))
    first, seconds = number, []
    held = held_bytes(device)
    reset_peak(device)
    while len(seconds) < job.repeats and (not seconds or time.perf_counter() - begun < job.budget):
        seconds.append(timed(number, steps) / steps)
        number += steps
    return {
        "seconds": seconds,
        "steps": steps,
        "start_seconds": start,
        "peak_bytes": peak_bytes(device, held),
        "held_bytes": held,
        "first": first,
        "last": number,
    }


def padded(load: Workload, rows: np.ndarray, padding: Padding, kind: str) -> int:
    """Tokens that an evaluation of these rows computes, padding included."""
    lengths = sizes(load.samples, rows)
    parts = [lengths[part] for part in micro_batches(lengths, padding, kind, training=False)]
    tokens = sum(len(part) * (padding.length if padding.to_full_length else int(part.max())) for part in parts)
    return tokens if load.samples.pairs is None else 2 * tokens


def operations(
    load: Workload, batches: list[np.ndarray], padding: Padding, model: Any, training: bool
) -> dict[str, int | str | None]:
    """FLOPs of one step, on average over these; None and the reason where they cannot be counted."""
    samples = load.samples
    lengths = np.concatenate([samples.lengths[documents(samples, rows)] for rows in batches])
    lengths = np.full_like(lengths, padding.length) if padding.to_full_length else lengths
    try:
        total = workload.count_flops(model, lengths, samples.pairs is not None, training)
    except CountError as error:
        return {"flops": None, "reason": str(error)}
    return {"flops": round(total / len(batches))}


def main() -> None:
    fields = json.load(sys.stdin)
    job = Job(**fields | {"overrides": tuple(fields["overrides"])})
    if choose_device(job.device).type == "cpu":
        limit_memory(job.memory)
    print(json.dumps(dataclasses.asdict(measure(job))))


if __name__ == "__main__":
    main()
