"""A grid of runs: those without a final record are prepared, checked and run, in this process or in others."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import tasks
from lra import signals
from lra.console import say
from lra.errors import ConfigError, RecordError, WorkError, to_type
from lra.experiments.board import Board
from lra.experiments.data import TaskData, describe_data, load_task_data, not_repeatable
from lra.experiments.engine import Engine, InProcess, write_failure
from lra.experiments.fresh_state import fresh_state
from lra.experiments.job import Job, open_job, placeholder_record, titles
from lra.experiments.local.crew import choose_crew
from lra.experiments.plan import Request, parse_devices, part_of
from lra.experiments.run import Run
from lra.experiments.trust import note_code_of
from lra.results.checkout import commit
from lra.results.files import writable
from lra.training.tracker import check_tracker

if TYPE_CHECKING:
    import torch

    from lra.training.distributed import Group


def run_jobs(request: Request, runs: list[Run], forgiving: bool = False, shard: tuple[int, int] = (1, 1)) -> list[Job]:
    """Runs what has no final record, on the engine and the devices of `request`, and returns a job for each run.

    A job without a record is being done by another process. forgiving: leave out runs whose data are missing, after a
    line that names them, instead of raising. shard: the part of the runs to do; for the other parts, records that exist
    are read. Everything is checked before the first step.

    Raises SpecError, DataError, ConfigError, RecordError or WorkError, and `signals.Stopped` after a signal.
    """
    if request.engine == "slurm":
        raise ConfigError(
            "--engine slurm writes a job array, which you submit: run ... --engine slurm --emit grid.sbatch"
        )
    commit()  # now, not when the first run ends: the checkout may change meanwhile
    check_tracker(request.track)
    writable(request.out)
    group = find_group(request)
    runs = fit_to(runs, group, here=request.engine != "ray")
    prepared = group.rank_zero_first(lambda: prepare_all(request, runs, forgiving))
    check_same_data(prepared, group)
    jobs, unreadable = open_jobs(request, runs, prepared)
    shard_keys = {run.key for run in part_of(runs, shard)}
    problems = [line for key, line in unreadable.items() if shard == (1, 1) or key in shard_keys]
    unfinished = find_unfinished([job for job in jobs if shard == (1, 1) or job.run.key in shard_keys], group)
    # once for all seeds
    for job in {(job.run.task, job.run.row, job.run.protocol): job for job in unfinished}.values():
        note_code_of(placeholder_record(job, prepared[job.run.data_key]))
    for job, job.title in zip(unfinished, titles(unfinished), strict=True):
        if group.rank == 0:
            job.announce()
    engine = choose_engine(request, unfinished, prepared, group)
    board = Board(unfinished, prepared)
    with contextlib.closing(board), contextlib.closing(engine.run(unfinished, board)) as endings:
        for ending in endings:
            job = ending.job
            if ending.failure:
                write_failure(ending, prepared[job.run.data_key])
            job.record = job.outcome()
            board.end(job.title)
            problems += [ending.problem] if ending.problem else []
    if group.any(signals.asked()):
        raise signals.stopped()
    if problems:
        raise WorkError(problems[0])
    for job in jobs:  # every process must make the same choice from the records
        if shard != (1, 1) and not job.final:
            job.record = job.outcome()  # a job of another part may have ended meanwhile
        job.record = group.broadcast(job.record)
    return jobs


def choose_engine(request: Request, jobs: list[Job], prepared: dict[str, TaskData], group: Group) -> Engine:
    """The engine for the jobs: this process, several processes of this machine, or a cluster. Raises ConfigError."""
    if jobs and request.engine == "ray":
        from lra.experiments.cluster.connect import connect, needs_of
        from lra.experiments.cluster.engine import Ray

        ray = connect(request.address)
        return Ray(ray, needs_of(request, ray), prepared, request)
    crew = choose_crew(request, [job.run for job in jobs], prepared, group)
    if jobs and (crew.workers > 1 or request.devices):
        from lra.experiments.local.workers import Workers

        return Workers(prepared, request, crew)
    return InProcess(prepared, group, request.observe)


def find_group(request: Request) -> Group:
    """The processes that torchrun started to share every run, or this one alone. Raises ConfigError.

    With a cluster, the group's device is that of the nodes, which this machine may lack.
    """
    from lra.training.device import choose_device
    from lra.training.distributed import alone, join

    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE") != "1":
        if request.devices or request.jobs or request.processes or request.engine != "local":
            raise ConfigError(
                "torchrun shares each run among its processes; leave --devices, --jobs, --processes and --engine out"
            )
        return join(request.device)
    if request.engine == "ray":
        from torch import device

        from lra.experiments.cluster.connect import connect, needs_of

        return alone(device("cuda" if needs_of(request, connect(request.address)).gpus else "cpu"))
    return alone(check_devices(parse_devices(request.devices)) if request.devices else choose_device(request.device))


def check_devices(names: list[str]) -> torch.device:
    """The first of these devices, after a look for all of them, without a context on any GPU. Raises ConfigError."""
    import torch

    from lra.training.device import choose_device

    if not names[0].startswith("cuda:"):
        return choose_device(names[0])
    count = torch.cuda.device_count()
    absent = [name for name in names if int(name.removeprefix("cuda:")) >= count]
    if absent:
        words = f"{count} GPUs" if count != 1 else "one GPU"
        raise ConfigError(f"{', '.join(absent)} cannot be used: this machine has {words}; on a CPU: --jobs 2")
    return torch.device("cuda", int(names[0].removeprefix("cuda:")))


def fit_to(runs: list[Run], group: Group, here: bool) -> list[Run]:
    """The runs with the precision of the group's device, which is `here` or at a cluster's node.

    Raises ConfigError for a batch that the group cannot share.
    """
    from lra.training.device import choose_precision
    from lra.training.distributed import check_batches

    check_batches(group, [(run.task, run.config.train.batch) for run in runs])
    pretrained = [run for run in runs if run.config.train.pretrain != "none"]
    check_batches(
        group, [(run.task, run.config.train.of_pretraining().batch) for run in pretrained], "train.pretrain_batch"
    )
    precisions = [choose_precision(run.config.train.precision, group.device, here) for run in runs]
    precisions = group.broadcast(precisions)  # the GPUs of a group may differ
    return [replace(run, precision=precision) for run, precision in zip(runs, precisions, strict=True)]


def prepare_all(request: Request, runs: list[Run], forgiving: bool) -> dict[str, TaskData]:
    """Data by `Run.data_key`; builds each model once, as a check. Raises DataError, SpecError or ConfigError."""
    from lra.experiments.build import make_model

    prepared, missing = {}, []
    for key in dict.fromkeys(run.data_key for run in runs):
        sharing = [run for run in runs if run.data_key == key]
        task = sharing[0].task
        try:
            prepared[key] = load_task_data(task, sharing[0].config, request.data_dir)
        except tasks.MissingDataError as error:
            if not forgiving:
                raise
            missing.append(task)
            say(f"missing: {error}")
            continue
        say(describe_data(task, prepared[key].data, request.data_dir))
        tasks.check_splits(prepared[key].data, values=False)
        for run in {(run.row, run.protocol): run for run in reversed(sharing)}.values():
            with fresh_state():
                make_model(run, prepared[key].data.spec)
    if missing:
        lost, wanted = list(dict.fromkeys(missing)), {run.task for run in runs}
        say(f"{len(wanted) - len(lost)} of {len(wanted)} tasks have data; missing: {', '.join(lost)}")
    return prepared


def check_same_data(prepared: dict[str, TaskData], group: Group) -> None:
    """Raises DataError when a user's task has made other data in this process than in process 0."""
    hashes = {key: task_data.data.hash for key, task_data in prepared.items()}
    first = group.broadcast(hashes)
    for key, data_hash in hashes.items():
        if first.get(key) != data_hash:
            raise tasks.DataError(not_repeatable(key.split()[0]))


def open_jobs(
    request: Request, runs: list[Run], prepared: dict[str, TaskData]
) -> tuple[list[Job], dict[tuple[str, str, int, str], str]]:
    """A job for each run with data, and for each that `match_params` adds; `Run.key` -> message on a bad record.

    A run with an unreadable record gets no job, and the message is printed. Raises ConfigError.
    """
    if request.match_params:
        from lra.experiments.match import match

        runs = match(runs, prepared)
    jobs, unreadable = [], {}
    for run in (run for run in runs if run.data_key in prepared):
        try:
            jobs.append(open_job(run, prepared[run.data_key].data.hash, request.out, request.track))
        except RecordError as error:
            unreadable[run.key] = f"{error}; move it away to run it again"
            say(unreadable[run.key])
    return jobs, unreadable


def find_unfinished(jobs: list[Job], group: Group) -> list[Job]:
    """The jobs without a final record; prints how many have one. Raises WorkError for an unusable checkpoint."""
    from lra.training.device import lacks_memory

    final = group.broadcast([job.final for job in jobs])
    unfinished = [job for job, done in zip(jobs, final, strict=True) if not done]
    if group.rank == 0:
        for job in jobs:
            if job.final:
                job.finish()  # a process that was killed after it wrote the record has left files
    for job in unfinished:
        try:
            job.folder.load_state()  # names an unusable checkpoint before anything runs
        except Exception as error:
            if not lacks_memory(error):  # else that run fails, and the others are done
                raise
    if len(unfinished) < len(jobs):
        say(f"{len(jobs) - len(unfinished)} of {len(jobs)} runs have a final record and are skipped")
    parts = [part for job in unfinished for part in (job.run.attention, job.run.backbone)]
    for note in dict.fromkeys(note for part in parts for note in part.notes):
        say(note)
    users = dict.fromkeys(job.run.spec for job in unfinished if not job.run.attention.builtin)
    if users:
        say(f"your own attention can be wrong without an error; to test it: {to_type('check', *users)}")
    return unfinished
