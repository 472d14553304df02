"""What a run would do: its plan, and a job script for SLURM."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from lra.errors import ConfigError, to_type

if TYPE_CHECKING:
    from lra.experiments.plan import Request
    from lra.experiments.run import Run
    from lra.experiments.status import RunStatus

SIDE = 32  # pixels on a side of the image that models are tried with
LENGTH = SIDE * SIDE  # tokens of a trial sequence
LONG = 2_000  # steps from which hours are worth measuring; a shorter run takes no longer than the measurement


def examine(request: Request, runs: Iterable[Run]) -> None:
    """Raises SpecError or ConfigError for model sizes, and DataError for a data folder, that these runs would refuse.

    Each model is built for LENGTH tokens unless its configuration sets a length, because a task's own sizes are known
    only once its data is prepared. An error from a user's file is only printed: the file may accept the task's sizes.
    """
    from attention_zoo import SpecError
    from lra.console import say
    from lra.experiments.build import make_model
    from tasks import DataError, Spec

    if request.data_dir and not request.data_dir.is_dir():
        raise DataError(f"--data-dir: {request.data_dir} is no folder")
    for run in {(run.row, str(run.config.model)): run for run in runs}.values():
        model = run.config.model
        length = model.length or LENGTH
        grid = (SIDE, SIDE) if length == LENGTH else None
        try:
            make_model(run, Spec(vocab=2, classes=2, length=length, grid=grid, padded=not model.zero_is_padding))
        except (SpecError, ConfigError) as error:
            if run.attention.builtin and run.backbone.builtin:
                raise
            say(f"{run.row}, tried with {length:,} tokens: {error}")


def dry_run(request: Request, sweep: list[str]) -> int:
    """Prints every run of the plan, its progress and the remaining time. Trains nothing and prepares no data."""
    from lra.commands.status import listing
    from lra.experiments.plan import part_of, plan
    from lra.experiments.status import plan_statuses

    if sweep:
        from lra.experiments.sweep import plan_sweep

        runs, pilots, _, _ = plan_sweep(request, sweep)
        examine(request, pilots)
        print(listing(with_hours(plan_statuses(request.out / "pilots", pilots))))
        print(f"these are pilots; {len(runs)} run{'s' * (len(runs) > 1)} with the values that they choose will follow")
        return 0
    runs = part_of(plan(request), request.shard)
    examine(request, runs)
    show(request, runs)
    if request.match_params:
        print("--match-params adds rows of softmax's size; which ones is known once the data are prepared")
    return 0


def show(request: Request, runs: list[Run]) -> int:
    """Prints the progress and the remaining time of these runs, and a command that measures hours not known yet."""
    import tasks
    from lra.commands.status import listing
    from lra.experiments.status import plan_statuses

    statuses = with_hours(plan_statuses(request.out, runs))
    print(listing(statuses))
    unknown = {(s.task, s.row) for s in statuses if (s.state, s.left) == ("missing", None)}
    long = [run for run in runs if run.task in tasks.ARENA and run.config.train.steps >= LONG]
    unmeasured = [run for run in long if (run.task, run.recorded_row) in unknown]
    if specs := dict.fromkeys(run.spec for run in unmeasured):
        words = ["bench", "--hours", "--attn", *specs]
        words += ["--protocol", request.protocol] if request.protocol != "standard" else []
        words += ["--set", *request.overrides] if request.overrides else []
        print(f"to know the hours, measure them here: {to_type(*words)}")
    return 0


def with_hours(statuses: list[RunStatus]) -> list[RunStatus]:
    """Fills in `left` (seconds), where it is unknown, from the hours that `bench --hours` measured on this machine."""
    if all(status.left is not None for status in statuses):
        return statuses
    from lra.commands.list import BENCHES, hours_here

    seconds = {
        (protocol, task, row): 3600 * hours
        for protocol, tables in hours_here(BENCHES).items()
        for task, rows in tables.items()
        for row, hours in rows.items()
    }
    return [
        replace(status, left=seconds[run] * (1 - status.step / status.steps))
        if status.left is None and (run := (status.protocol, status.task, status.row)) in seconds
        else status
        for status in statuses
    ]


def emit(request: Request, parsed: argparse.Namespace) -> int:
    """Writes the SLURM script. Raises ConfigError for options that the job array sets itself, and WorkError."""
    from lra.experiments.plan import plan
    from lra.experiments.slurm import LARGEST, NAMED, logs_of, script
    from lra.results.checkout import program
    from lra.results.files import check_replaceable, encoded, writable, write_named

    if request.devices or request.jobs or request.processes or request.shard != (1, 1):
        raise ConfigError(
            "--emit gives each task its device and part; leave --devices, --jobs, --processes and --shard out"
        )
    runs = plan(request)
    if parsed.sweep:
        from lra.experiments.sweep import plan_sweep

        examine(request, plan_sweep(request, parsed.sweep)[1])
    else:
        examine(request, runs)
    count = len({(run.task, run.row) for run in runs}) if parsed.sweep else len(runs)
    words, on_cpu = [sys.executable, *program()], request.device.partition(":")[0] == "cpu"
    text = script(parsed.emit, words, words_of(parsed), request.out, count, on_cpu)
    check_replaceable(parsed.emit, f"\n{NAMED}\n", "--emit")
    with contextlib.suppress(OSError):  # `write_named` reports the error
        parsed.emit.parent.mkdir(parents=True, exist_ok=True)
    write_named(parsed.emit, encoded(text), "--emit")
    writable(logs_of(request.out))
    print(f"{parsed.emit}: an array of {min(count, LARGEST)}; to submit it: bash {shlex.quote(str(parsed.emit))}")
    return 0


def words_of(parsed: argparse.Namespace) -> list[str]:
    """The arguments of the command that carries out the runs."""
    words = ["run"]
    for name in ("attn", "task", "seed", "set", "sweep"):
        values = [str(value) for value in getattr(parsed, name)]
        words += [f"--{name}", *values] if values else []
    words += ["--protocol", parsed.protocol, "--out", str(parsed.out), "--device", parsed.device]
    words += ["--data-dir", str(parsed.data_dir)] if parsed.data_dir else []
    words += ["--track", parsed.track] if parsed.track else []
    flags = {"--match-params": parsed.match_params, "--accept-mirror": parsed.accept_mirror}
    return [*words, *(flag for flag, given in flags.items() if given)]
