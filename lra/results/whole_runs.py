"""Hours of whole runs on a machine, from bench records; standard library only.

A run trains and evaluates: `bench --hours` times a step of each, in the same number of processes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from lra.results.bench_record import UNIFORM, Bench, newest

TRAINING, FORWARD = "training", "forward"


class Conditions(NamedTuple):
    """What hours must share to be compared: the machine, and how it was used, except for the number of processes."""

    device: str
    device_name: str
    cores: int | None
    threads: int | None
    gear: str
    precision: str
    protocol: str


@dataclass(frozen=True)
class WholeRun:
    """The timings that make up a whole run of one attention on one task under one setting."""

    row: str
    task: str
    alone: Bench | None = None  # training in one process
    shared: Bench | None = None  # training in all processes
    evaluation: Bench | None = None  # in all processes
    cold: Bench | None = None  # training in one process, with an empty compiler's cache

    @property
    def hours(self) -> float | None:
        """Training and evaluations, in all processes; None where one of the two was not measured."""
        parts = [bench.hours if bench else None for bench in (self.shared, self.evaluation)]
        return sum(part for part in parts if part is not None) if None not in parts else None

    @property
    def created(self) -> str:
        """When its steps were last timed."""
        return max((bench.created for bench in (self.shared, self.evaluation) if bench), default="")


def conditions_of(bench: Bench) -> Conditions:
    device, name, cores, threads = (bench.environment.get(key) for key in ("device", "device_name", "cores", "threads"))
    return Conditions(str(device), str(name), cores, threads, bench.gear, bench.precision, bench.protocol)


def whole_runs(benches: Iterable[Bench]) -> dict[Conditions, list[WholeRun]]:
    """Conditions -> the whole runs measured there, in the order in which they first appear. benches: oldest first.

    Where runs were timed with several numbers of processes, the number whose evaluation was timed last counts.
    """
    groups: dict[tuple[Conditions, str, str], list[Bench]] = {}
    for bench in sorted(newest(benches), key=lambda bench: bench.created):
        if bench.run_steps and bench.shape != UNIFORM:
            groups.setdefault((conditions_of(bench), bench.row, bench.shape), []).append(bench)
    by_conditions: dict[Conditions, list[WholeRun]] = {}
    for (conditions, row, task), members in groups.items():
        by_conditions.setdefault(conditions, []).append(whole_run(row, task, members))
    return by_conditions


def whole_run(row: str, task: str, benches: list[Bench]) -> WholeRun:
    """The whole run of these timings: one attention on one task under one set of conditions. benches: oldest first."""
    warm = {(bench.mode, bench.processes): bench for bench in benches if not bench.cold}
    most = next((bench.processes for bench in reversed(benches) if bench.mode == FORWARD and not bench.cold), 1)
    return WholeRun(
        row,
        task,
        alone=warm.get((TRAINING, 1)),
        shared=warm.get((TRAINING, most)),
        evaluation=warm.get((FORWARD, most)),
        cold=next((bench for bench in reversed(benches) if bench.cold), None),
    )
