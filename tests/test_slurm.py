"""The job script for SLURM, under a fake sbatch that runs the tasks of an array one after the other."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lra.cli import main
from lra.results.record import load

SBATCH = """\
#!{python}
import os, re, subprocess, sys
words = sys.argv[1:]
with open({log!r}, "a") as log:
    print("sbatch", *words, file=log)
wrapped = [word for word in words if word.startswith("--wrap=")]
if wrapped:
    raise SystemExit(subprocess.run(["bash", "-c", wrapped[0][7:]]).returncode)
last = int(re.search(r"#SBATCH --array=1-(\\d+)", open(words[-1]).read())[1])
for task in range(1, last + 1):
    about = {{"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(task), "SLURM_JOB_ID": str(7 + task)}}
    subprocess.run(["bash", words[-1]], env=os.environ | about, stdout=sys.stderr)
print("7;cluster")
"""
RUN = """\
#!{python}
import signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: (time.sleep(0.5), sys.exit(75)))
print("ready", *sys.argv[1:], flush=True)
time.sleep(60)
"""


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Puts fake sbatch and scontrol on PATH -> the file in which they log their arguments."""
    tools, log = tmp_path / "bin", tmp_path / "log"
    tools.mkdir()
    executable(tools / "sbatch", SBATCH.format(python=sys.executable, log=str(log)))
    executable(tools / "scontrol", f'#!/bin/bash\necho scontrol "$@" >> {log}\n')
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return log


def emit(tiny, tmp_path, *words: str) -> Path:
    path = tmp_path / "grid.sbatch"
    command = ["--task", "listops", "--protocol", tiny, "--device", "cpu", "--out", str(tmp_path / "runs")]
    assert main([*command, "--attn", *words, "--emit", str(path)]) == 0
    subprocess.run(["bash", "-n", str(path)], check=True)
    return path


@pytest.mark.slow
def test_an_array_does_the_grid_and_its_report(tiny, tmp_path, cluster):
    path = emit(tiny, tmp_path, "elu:conv=3", "mean", "--set", "train.gear=eager", "model.layers=1")
    assert not list((tmp_path / "runs").glob("*.json")), "nothing has run"
    said = subprocess.run(["bash", str(path), "--partition=cpu"], capture_output=True, text=True, check=True)
    assert "array 7: 2 runs; how far they are: " in said.stdout
    records = [load(found) for found in sorted((tmp_path / "runs").glob("*.json"))]
    assert [(record.row, record.status) for record in records] == [("elu:conv=3", "done"), ("mean", "done")]
    assert (tmp_path / "runs" / "report" / "report.html").exists()
    first, second = cluster.read_text().splitlines()
    assert first == f"sbatch --parsable --partition=cpu {path}"
    assert second.startswith("sbatch --dependency=afterany:7 ")


def test_a_task_that_is_warned_saves_and_is_queued_again(tiny, tmp_path, cluster):
    """The script passes the signal to its run, and waits until the run has saved."""
    path = emit(tiny, tmp_path, "softmax", "elu")
    text = path.read_text()
    assert all(line in text for line in ("#SBATCH --signal=B:USR1@120", "#SBATCH --requeue", "#SBATCH --array=1-2"))
    program = executable(tmp_path / "run", RUN.format(python=sys.executable))
    start = next(line for line in text.splitlines() if line.endswith('--shard "$SLURM_ARRAY_TASK_ID/2" &'))
    path.write_text(text.replace(start, f'{program} --shard "$SLURM_ARRAY_TASK_ID/2" &'))
    environment = os.environ | {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
    with subprocess.Popen(["bash", str(path)], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready --shard 2/2\n"
        process.send_signal(signal.SIGUSR1)
        began = time.monotonic()
        assert process.wait(timeout=60) == 75
    assert time.monotonic() - began < 30
    assert cluster.read_text() == "scontrol requeue 7_2\n"


def test_what_an_array_needs(tiny, tmp_path, capsys):
    text = emit(tiny, tmp_path, "softmax", "pola", "--seed", "0", "1", "--sweep", "train.lr=1e-3,1e-4").read_text()
    assert "#SBATCH --array=1-2\n" in text, "all seeds of an attention share its pilots"
    assert "--gres" not in text
    assert "--sweep train.lr=1e-3,1e-4" in text
    words = ["--attn", "elu", "--task", "listops", "--protocol", tiny, "--emit", str(tmp_path / "gpu.sbatch")]
    assert main([*words, "--out", str(tmp_path)]) == 0
    assert "\n#SBATCH --gres=gpu:1\n" in (tmp_path / "gpu.sbatch").read_text()
    capsys.readouterr()
    assert main([*words, "--out", str(tmp_path), "--jobs", "2"]) == 2
    assert "leave --devices, --jobs, --processes and --shard out" in capsys.readouterr().err
    for name in ("a b", "a%b", "a'b", "a$b", "a;b"):
        assert main([*words, "--out", str(tmp_path / name)]) == 2
        assert "SLURM cannot write its logs to" in capsys.readouterr().err
