"""Measures one timing: `measure(timing)`, or a process of its own with the timing in and the record out, as JSON.

    python -m lra.bench.measure < timing.json > record.json
    python -m lra.bench.measure PORT RANK < timing.json > record.json    one of `timing.processes`, which meet at a port

A separate process has its own memory peak. It can run out of memory or be stopped without harm to the others.
"""

import contextlib
import dataclasses
import datetime
import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from lra.backbones.weights import count_parameters
from lra.bench import workload
from lra.bench.workload import Timing, Workload
from lra.errors import CountError
from lra.experiments.build import make_model, padding_of
from lra.experiments.data import find_task
from lra.results.bench_record import DONE, FAILED, NO_MEMORY, TOO_SLOW, Bench
from lra.results.machine import environment, held_bytes, peak_bytes, reset_peak
from lra.training.batches import documents, micro_batches, order, sizes
from lra.training.device import (
    Device,
    Padding,
    choose_device,
    choose_precision,
    lacks_memory,
    set_backends,
    synchronise,
)
from lra.training.distributed import Group, alone, together
from lra.training.gearbox import choose_gear
from lra.training.step import Step

BLOCK_SECONDS = 0.1  # a repeat has enough steps to take this long, so that reading the clock is negligible
WARM_SECONDS = 0.5


def measure(timing: Timing, group: Group | None = None) -> Bench:
    """Time and memory of a step. Running out of memory is a result. Raises SpecError, DataError or ConfigError.

    group: the processes that share the step; each of them calls this.
    """
    if timing.threads:
        torch.set_num_threads(timing.threads)
    run = workload.resolve(timing)
    device = choose_device(timing.device)
    group = group or alone(device)
    run = dataclasses.replace(run, precision=choose_precision(run.config.train.precision, device))
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    known: dict[str, Any] = {**workload.about(timing, run), "environment": environment(device), "created": now}
    try:
        bench = Bench(status=DONE, **known)
        work = group.rank_zero_first(lambda: workload.prepare(timing, run))
        return dataclasses.replace(bench, **figures(timing, work, device, group))
    except (RuntimeError, MemoryError) as error:
        lacking = lacks_memory(error)
        reason = "" if lacking else f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return Bench(status=NO_MEMORY if lacking else FAILED, reason=reason, **known)


def limit_memory(size: int) -> None:
    """Lets the process take this many more bytes, so that it fails before the system has to stop some process."""
    if size and (held := held_bytes(torch.device("cpu"))):
        import resource  # which Windows lacks

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (held + size, hard))


def figures(timing: Timing, work: Workload, device: torch.device, group: Group) -> dict[str, Any]:
    """The measured fields of the record."""
    run = work.run
    set_backends(run.config.train.deterministic)
    padding = padding_of(run, work.spec)
    model = make_model(run, work.spec).to(device)
    train = run.config.train
    if device.type == "cpu" and train.gear == "auto":  # compiles for minutes, to measure seconds, only if asked
        gear = choose_gear(train, device.type, padding.length)[0] if timing.whole_run else "eager"
        train = dataclasses.replace(train, gear=gear)
    step = Step(model, train, Device(device, run.precision), padding, run.seed, group)

    def rows(number: int) -> np.ndarray:
        return order(len(work.samples.labels), train.batch, 0, number)

    training, computed = timing.mode == "training", [0]

    def act(number: int) -> None:
        if training:
            step(work.samples, rows(number), number % train.steps)  # beyond the last step the rate would be negative
            computed.append(step.computed_tokens)
        else:
            step.evaluate(work.samples, rows(number))

    fields = clock(act, timing, device, group)
    first, last = fields.pop("first"), fields.pop("last")
    batches = [rows(number) for number in range(first, last)]
    if training:
        tokens = computed[last] - computed[first]
    else:
        tokens = sum(evaluated_tokens(work, rows, padding, device) for rows in batches)
    real = sum(int(work.samples.lengths[documents(work.samples, rows)].sum()) for rows in batches)
    fields |= {"computed_tokens": tokens / len(batches), "real_tokens": real / len(batches)}
    fields |= {"length": run.length(work.spec), "parameters": count_parameters(model)}
    fields |= {"environment": environment(device, step.gears.name), "run_steps": workload.steps_of_run(timing, work)}
    counted = operations(work, batches, padding, model, training)
    reasons = [str(part["reason"]) for part in (fields, counted) if part.get("reason")]
    return fields | counted | {"reason": "; ".join(reasons)}


def clock(act: Callable[[int], None], timing: Timing, device: torch.device, group: Group) -> dict[str, Any]:
    """Warms up, then times `repeats` blocks of steps, or fewer when the budget ends. first, last: the steps timed.

    The budget begins after the very first step, which may compile. Process 0 decides, by its own clock, how many steps
    all processes of the group take.
    """
    agree = group.broadcast

    def timed(first: int, steps: int) -> float:
        started = time.perf_counter()
        for number in range(first, first + steps):
            act(number)
        synchronise(device)
        return time.perf_counter() - started

    start, begun = timed(0, 1), time.perf_counter()
    single, number = agree(timed(1, 1)), 2
    if single > timing.budget:
        reason = f"a step took {single:.1f} s of {timing.budget:g} s"
        return {"status": TOO_SLOW, "reason": reason, "start_seconds": start, "first": 1, "last": 2}
    warm = time.perf_counter()
    while agree(time.perf_counter() - warm < min(WARM_SECONDS, timing.budget / 10)):
        single, number = min(single, timed(number, 1)), number + 1
    steps = agree(max(1, math.ceil(BLOCK_SECONDS / single)))
    first, seconds = number, []
    held = held_bytes(device)
    reset_peak(device)
    while agree(len(seconds) < timing.repeats and (not seconds or time.perf_counter() - begun < timing.budget)):
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


def evaluated_tokens(work: Workload, rows: np.ndarray, padding: Padding, device: torch.device) -> int:
    """How many tokens an evaluation of these rows computes in the eager gear, padding included; others compute more."""
    lengths = sizes(work.samples, rows)
    parts = [lengths[part] for part in micro_batches(lengths, padding, device.type, training=False)]
    tokens = sum(len(part) * (padding.length if padding.to_full_length else int(part.max())) for part in parts)
    return tokens if work.samples.pairs is None else 2 * tokens


def operations(
    work: Workload, batches: list[np.ndarray], padding: Padding, model: Any, training: bool
) -> dict[str, int | str | None]:
    """Mean FLOPs of a step on these batches; None and the reason where they cannot be counted."""
    samples = work.samples
    lengths = np.concatenate([samples.lengths[documents(samples, rows)] for rows in batches])
    lengths = np.full_like(lengths, padding.length) if padding.to_full_length else lengths
    try:
        total = workload.count_flops(model, lengths, samples.pairs is not None, training)
    except CountError as error:
        return {"flops": None, "reason": str(error)}
    return {"flops": round(total / len(batches))}


def main() -> None:
    fields = json.load(sys.stdin)
    timing = Timing(**fields | {"overrides": tuple(fields["overrides"])})
    if timing.file:
        find_task(timing.file, silent=True)
    if choose_device(timing.device).type == "cpu":
        limit_memory(timing.memory // timing.processes)
    with contextlib.ExitStack() as stack:
        group = None
        if timing.processes > 1:
            port, rank = map(int, sys.argv[1:])
            group = stack.enter_context(together(port, "bench", rank, timing.processes))
        bench = measure(timing, group)
        print(json.dumps(dataclasses.asdict(bench)), flush=True)


if __name__ == "__main__":
    main()
