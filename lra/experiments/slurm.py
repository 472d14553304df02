"""A job script for SLURM that runs a grid as a job array; each array task does one part of the runs (`--shard i/n`).

Nothing needs to be installed. A task that is warned before its time limit, or preempted, saves its run, ends with
exit code 75 and is queued again. https://slurm.schedmd.com/sbatch.html, https://slurm.schedmd.com/job_array.html
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from lra.errors import ConfigError
from lra.results.layout import WORK
from lra.signals import UNFINISHED

LARGEST = 1000  # tasks of an array; SLURM's MaxArraySize is 1001 unless a site has changed it

NAMED = "#SBATCH --job-name=lra"  # a line of every such script, which marks the file as one

SCRIPT = """\
#!/bin/bash
# {runs} in an array of {parts}, one device each. To submit them, and a job that makes the report when all have ended:
#     bash {file} [options of sbatch, such as --partition=gpu --time=08:00:00]
# `sbatch {file}` submits the array alone. Submitted again, it goes on with what is not done.
{named}
#SBATCH --array=1-{parts}
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G{device}
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={logs}/slurm-%A_%a.out

cd {folder} || exit 1
if [ -z "${{SLURM_ARRAY_TASK_ID:-}}" ]; then
    mkdir -p {logs}
    array=$(sbatch --parsable "$@" {script}) || exit 1
    array=${{array%%;*}}
    sbatch --dependency="afterany:$array" --job-name=lra-report --time=01:00:00 --mem=16G \\
        --output={logs}/slurm-%j.out --wrap={report}
    echo "array $array: {runs}; how far they are: {status}"
    exit
fi

{command} --shard "$SLURM_ARRAY_TASK_ID/{parts}" &
run=$!
trap 'signalled=yes; kill -USR1 "$run"' USR1
trap 'signalled=yes; kill -TERM "$run"' TERM
while :; do # a trap ends wait, while the run is still being saved
    signalled=
    wait "$run"
    code=$?
    if [ -z "$signalled" ] || [ "$code" -lt 128 ]; then break; fi
done
if [ "$code" -eq {unfinished} ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt 1000 ]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$code"
"""


def logs_of(out: Path) -> Path:
    """The folder of the array tasks' output; SLURM does not create it."""
    return out.resolve() / WORK


def script(file: Path, program: Sequence[str], words: Sequence[str], out: Path, runs: int, cpu: bool) -> str:
    """The text of the script. program: what starts the command line; words: its arguments, without --shard.

    runs: how many runs the grid has, or rows that a sweep tunes. cpu: the runs need no GPU. Raises ConfigError if the
    path of `out` has characters with which SLURM could not write its logs there.
    """
    logs = logs_of(out)
    if "%" in str(logs) or shlex.quote(str(logs)) != str(logs):  # #SBATCH lines are not read by the shell
        raise ConfigError(
            f"--emit: SLURM cannot write its logs to {logs}; give an --out of letters, digits and @ + = : , . / _ -"
        )

    def shell(*after: str) -> str:
        return shlex.join([*program, *after])

    return SCRIPT.format(
        named=NAMED,
        runs="1 run" if runs == 1 else f"{runs} runs",
        parts=min(runs, LARGEST),
        file=shlex.quote(file.name),
        script=shlex.quote(str(file.resolve())),
        device="" if cpu else "\n#SBATCH --gres=gpu:1",
        logs=logs,
        folder=shlex.quote(str(Path.cwd())),
        command=shell(*words),
        report=shlex.quote(shell("report", str(out.resolve()), "--out", str(out.resolve() / "report"))),
        status=shell("status", str(out.resolve())).replace('"', '\\"').replace("$", "\\$"),
        unfinished=UNFINISHED,
    )
