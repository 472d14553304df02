"""How many runs a command trains at a time on a CPU, and how many processes share each, to use all free cores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lra.console import say
from lra.errors import ConfigError
from lra.experiments.data import TaskData
from lra.experiments.plan import Request
from lra.experiments.run import Run

if TYPE_CHECKING:
    from lra.training.distributed import Group

# A run of at least this many tokens, padding included, is worth the few seconds in which more processes start.
SHARED_TOKENS = 10_000_000
# A command whose runs have at least this many tokens together is worth a start of processes for them.
APART_TOKENS = 5_000_000
CAN_SHARE = os.name != "nt"  # the processes of a run share memory and sockets in ways that Windows does not have
BYTES = 1 << 30  # memory that a process may need


@dataclass(frozen=True)
class Crew:
    """The processes of a command.

    workers: processes that train; 1 is this process itself, unless --devices is given. at_once: runs at a time, at
    most. each: processes that share a run; 0 for as many as are free. now: processes that may compute while other
    programs use the machine; 0 for all.
    """

    workers: int = 1
    at_once: int = 1
    each: int = 0
    now: int = 0

    def size(self, idle: int, left: int, running: int, shared: bool) -> int:
        """How many processes the next run gets; 0 when it has to wait.

        idle: processes without a run. left: runs that have not begun. running: runs under way. shared: is the next
        run long enough to be shared?
        """
        places = min(left, self.at_once - running)
        if places < 1 or idle < max(1, self.each):
            return 0
        return self.each or (max(1, idle // places) if shared else 1)


def tokens(run: Run, prepared: TaskData) -> int:
    """How many tokens a run trains on, including its pretraining and padding."""
    train, spec = run.config.train, prepared.data.spec
    phases = [train] if train.pretrain == "none" else [train, train.of_pretraining()]
    return sum(phase.steps * phase.batch for phase in phases) * run.length(spec) * (1 + spec.pair)


def is_long(run: Run, prepared: TaskData) -> bool:
    """Is a run long enough to be shared by several processes?"""
    return CAN_SHARE and tokens(run, prepared) >= SHARED_TOKENS


def choose_crew(request: Request, runs: Sequence[Run], prepared: dict[str, TaskData], group: Group) -> Crew:
    """The processes for these runs: as requested, else one for each free core of a CPU, as far as memory allows.

    group: the processes that torchrun started, or this one. Raises ConfigError.
    """
    if request.observe or not runs or group.size > 1:
        return Crew()
    if group.device.type != "cpu":
        if request.processes > 1:
            raise ConfigError(
                "--processes shares a run among the cores of a CPU; on several GPUs start it with torchrun"
            )
        return Crew(max(1, request.jobs), max(1, request.jobs), 1)
    wanted = ask(request, runs, prepared)
    return fit_memory(wanted) if wanted.workers > 1 else wanted


def ask(request: Request, runs: Sequence[Run], prepared: dict[str, TaskData]) -> Crew:
    """The processes for these runs on a CPU, whether memory suffices or not. Raises ConfigError."""
    jobs, each = request.jobs, request.processes
    if each > 1 and not CAN_SHARE:
        raise ConfigError("--processes: on Windows a run has one process; use --jobs for several runs at a time")
    if jobs and each:
        return Crew(jobs * each, jobs, each)
    work = [tokens(run, prepared[run.data_key]) for run in runs]
    if not jobs and not each and (sum(work) < APART_TOKENS or (len(runs) == 1 and work[0] < SHARED_TOKENS)):
        return Crew()
    cores, free = count_cores()
    if each:
        at_once = min(len(runs), max(1, free // each))
        return Crew(at_once * each, at_once, each)
    long = CAN_SHARE and max(work) >= SHARED_TOKENS
    if jobs:
        return Crew(max(jobs, free if long else 1), jobs)
    workers = cores if long else min(cores, len(runs))
    if free >= workers:
        return Crew(workers, workers)
    option = "--processes" if len(runs) == 1 else "--jobs"
    say(f"other programs keep {cores - free} of {cores} cores busy and are not disturbed; {option} {cores} takes all")
    return Crew(workers, workers, now=free)


def count_cores() -> tuple[int, int]:
    """How many processes fit with a core for each of their threads: on an idle machine, and now."""
    from lra.training.cores import own_cores, threads_per_process, usable_cores

    threads = threads_per_process()
    return max(1, own_cores() // threads), max(1, usable_cores() // threads)


def fit_memory(crew: Crew) -> Crew:
    """The crew, with fewer processes if the memory does not suffice, after a line that says so."""
    from lra.training.cores import free_bytes

    free = free_bytes()
    fitting = max(1, free // BYTES) if free else crew.workers
    if fitting >= crew.workers:
        return crew
    each = min(crew.each, fitting)
    at_once = min(crew.at_once, fitting // max(1, each))
    say(f"{fitting} processes instead of {crew.workers}: {free / BYTES:.1f} GiB of memory are free, each may need one")
    return Crew(at_once * each or fitting, at_once, each, min(crew.now, fitting))
