"""A grid in several processes: the same records as in one process, crashes, Ctrl-C, shards for job arrays."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asking
import pytest
import torch
from asking import run_grid
from computed import computed
from stillborn import stillborn

from lra.cli import main
from lra.errors import ConfigError, WorkError
from lra.experiments import engine
from lra.experiments.data import load_task_data
from lra.experiments.grid import run_jobs
from lra.experiments.job import open_job, titles
from lra.experiments.local import team
from lra.experiments.local.worker import Order, WorkerSettings, receive
from lra.experiments.packed import PackedRun
from lra.experiments.plan import parse_devices, parse_shard, part_of, plan
from lra.results.record import load
from lra.training.progress import Paused, Progress
from tasks import DataError

ROOT = Path(__file__).parent.parent
DEADLY = """
import os, signal, torch
from attention_zoo import QKVAttention, register

@register("deadly", title="Deadly")
class Deadly(QKVAttention):
    def attend(self, q, k, v, keep=None):
        if q.requires_grad:
            os.kill(os.getpid(), signal.SIGKILL)
        return v
"""


asked = partial(asking.asked, attentions=["elu", "softmax"], seeds=[0, 1])


def test_two_jobs_give_the_records_of_one(tmp_path, capfd):
    alone = run_grid(asked(tmp_path / "one", overrides=("model.dropout=0.1",)))
    both = run_grid(asked(tmp_path / "two", overrides=("model.dropout=0.1",), jobs=2))
    assert [record.status for record in both] == ["done"] * 4
    assert {(record.environment["threads"], record.environment["processes"]) for record in both} == {(1, 1)}
    assert [computed(record) for record in both] == [computed(record) for record in alone]
    lines = capfd.readouterr().err.splitlines()
    assert any(line.startswith("[4/4] listops softmax seed 1: test ") for line in lines)
    assert sum("generated" in line for line in lines) == 2, "each command prepared its data once, in the parent"


@pytest.mark.usefixtures("quick_workers")
def test_a_killed_worker_is_one_failed_run(tmp_path, capfd):
    own = tmp_path / "deadly.py"
    own.write_text(DEADLY)
    wanted = asked(tmp_path / "runs", attentions=["elu", str(own), "relu"], jobs=2)
    status = {(record.row, record.seed): record for record in run_grid(wanted)}
    assert [status["deadly", seed].status for seed in (0, 1)] == ["failed", "failed"]
    assert "its process ended by signal SIGKILL" in status["deadly", 0].reason
    assert engine.ending_in_words(-99) == "by signal 99"  # one without a name
    assert {status[row, seed].status for row in ("elu", "relu") for seed in (0, 1)} == {"done"}
    assert "deadly seed 0: failed: its process ended" in capfd.readouterr().err


@pytest.mark.usefixtures("quick_workers")
def test_a_device_without_a_process_costs_no_run(tmp_path, monkeypatch, capfd):
    real = team.CONTEXT.Process

    def process(target, args):
        broken = args[1] == "cuda:0"
        return real(target=stillborn if broken else target, args=(args[0], "cpu", *args[2:]))

    monkeypatch.setattr(team, "CONTEXT", SimpleNamespace(Process=process, Pipe=team.CONTEXT.Pipe))
    monkeypatch.setattr("lra.experiments.grid.check_devices", lambda _: torch.device("cpu"))
    records = run_grid(asked(tmp_path, devices="0,1"))
    assert [record.status for record in records] == ["done"] * 4
    assert "no process can start on cuda:0 (exit code 0): the others go on without it" in capfd.readouterr().err
    with pytest.raises(WorkError, match="no process can start on cuda:0"):
        run_grid(asked(tmp_path, devices="0", seeds=[2]))


def test_a_run_does_not_wait_for_a_process_that_cannot_start(tmp_path, monkeypatch, capfd):
    real, started = team.CONTEXT.Process, []

    def process(target, args):
        started.append(args)
        return real(target=stillborn if len(started) == 1 else target, args=args)

    monkeypatch.setattr(team, "CONTEXT", SimpleNamespace(Process=process, Pipe=team.CONTEXT.Pipe))
    (record,) = run_grid(asked(tmp_path, attentions=["elu"], seeds=[0], processes=2))
    assert record.status == "done"
    assert "the others go on without it" in capfd.readouterr().err


def test_a_lost_gpu_ends_the_process_that_lost_it(tmp_path, monkeypatch):
    """A process that lost its GPU ends after that run, because its next run would get the error of the previous one."""
    monkeypatch.setattr("lra.training.device.lost", lambda _: True)
    with pytest.raises(WorkError, match=r"this process cannot use cpu any more after \[1/2\] listops elu seed 0"):
        run_grid(asked(tmp_path, attentions=["elu"]))
    assert len(list(tmp_path.glob("*.json"))) == 1


@pytest.mark.parametrize("can_share", [True, False])
def test_a_store_is_opened_only_where_processes_can_share_a_run(tmp_path, monkeypatch, can_share):
    """On Windows they cannot, and torch may have been built without what the store needs."""
    ports = []

    def start(device, settings):  # noqa: ARG001
        ports.append(settings.port)
        raise WorkError("enough")

    monkeypatch.setattr("lra.experiments.local.workers.CAN_SHARE", can_share)
    monkeypatch.setattr("lra.experiments.local.workers.start", start)
    monkeypatch.setattr("lra.training.distributed.open_store", lambda: SimpleNamespace(port=4711))
    with pytest.raises(WorkError, match="enough"):
        run_grid(asked(tmp_path, jobs=2))
    assert ports == [4711 if can_share else 0]


def test_a_worker_takes_the_ladder_from_its_order(tmp_path, monkeypatch):
    """It is the same as in the command's other processes, and can take minutes to compute."""
    (run,) = plan(asked(tmp_path, attentions=["elu"], seeds=[0]))
    job = open_job(run, load_task_data("listops", run.config, None).data.hash, tmp_path)
    order = Order(run=PackedRun.of(run), task_code=None, ladder={"constant": 0.2}, path=job.path, title="one")
    monkeypatch.setattr("tasks.Task.ladder", lambda *_: pytest.fail("computed"))
    received, prepared = receive(order, WorkerSettings(None, "", 0, 0.0), {})
    assert (received.path, received.title, prepared.ladder) == (job.path, "one", {"constant": 0.2})


@pytest.mark.usefixtures("quick_workers")
def test_an_exception_in_a_worker_is_a_record(tmp_path):
    own = tmp_path / "broken.py"
    own.write_text(DEADLY.replace("deadly", "broken").replace("os.kill(os.getpid(), signal.SIGKILL)", "1 / 0"))
    (record,) = run_grid(asked(tmp_path / "runs", attentions=[str(own)], seeds=[0], jobs=2))
    assert record.status == "failed"
    assert record.reason.startswith("ZeroDivisionError")


def test_a_failure_in_a_folder_named_in_latin_1_is_a_record(tmp_path):
    """The traceback has the name, which UTF-8 cannot encode; it is written with an escape, and the grid goes on."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    own = folder / "broken.py"
    own.write_text(DEADLY.replace("deadly", "broken").replace("os.kill(os.getpid(), signal.SIGKILL)", "1 / 0"))
    wanted = asked(tmp_path / "runs", attentions=[str(own), "mean"], seeds=[0], overrides=("train.steps=4",))
    failed, done = run_grid(wanted)
    assert (failed.status, done.status) == ("failed", "done")
    (written,) = (tmp_path / "runs").glob("work/*/error.txt")
    assert "caf\\udce9" in written.read_text(encoding="utf-8")
    (job, _) = run_jobs(wanted, plan(wanted))
    prepared = load_task_data("listops", job.run.config, None)
    engine.write_failure(engine.Ending(job, failure="it ended", traceback="in caf\udce8"), prepared)
    assert (job.record and job.record.reason, written.read_text(encoding="utf-8")) == ("it ended", "in caf\\udce8")


def wait_for(what: Callable[[], object], seconds: float = 300.0) -> None:
    """Waits until `what()` is true; AssertionError after `seconds`, which allow for a slow machine."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "no sign of it"
        time.sleep(0.05)


def is_locked(path: Path) -> bool:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_stopping_the_parent_stops_all(tiny, tmp_path, ending):
    """After Ctrl-C or SIGKILL to the parent, the workers end, which frees the locks of their runs."""
    command = ["--attn", "elu", "softmax", "--task", "listops", "--protocol", tiny, "--jobs", "2", "--out"]
    command += [str(tmp_path), "--set", "train.evaluate_every=20", "train.steps=1000000", "train.gear=eager"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
    try:
        with (tmp_path / "said").open("w") as said:
            process = subprocess.Popen([sys.executable, "run_lra.py", *command], cwd=ROOT, stderr=said, env=environment)
    finally:
        signal.signal(signal.SIGINT, ignored)
    try:
        wait_for(lambda: len(list(tmp_path.glob("work/*/resume.pt"))) == 2 or process.poll() is not None)
        locks = list(tmp_path.glob("work/*/lock"))
        assert [is_locked(lock) for lock in locks] == [True, True]
        process.send_signal(ending)
        assert process.wait(timeout=300) == (130 if ending == signal.SIGINT else -signal.SIGKILL)
    finally:
        process.kill()
    wait_for(lambda: not any(is_locked(lock) for lock in locks))
    assert not list(tmp_path.glob("*.json")), "no record of a run that was stopped"
    assert "leaked" not in (tmp_path / "said").read_text()


@pytest.mark.usefixtures("quick_workers")
def test_workers_go_on_where_an_interrupted_command_was(tmp_path):
    """A grid stopped in this process between two lines of its log is finished by two workers."""

    with pytest.raises(KeyboardInterrupt):
        run_grid(asked(tmp_path, seeds=[0], observe=asking.stop_at(45)))
    records = run_grid(asked(tmp_path, seeds=[0], jobs=2))
    assert [record.status for record in records] == ["done", "done"]
    for log in tmp_path.glob("work/*/metrics.jsonl"):
        steps = [line["step"] for line in map(json.loads, log.read_text().splitlines()) if "lr" in line]
        assert sorted(steps) == sorted([20, 40, 60, 50, 60]), "no line twice, none missing"


def test_observe_sees_every_step_of_this_process_alone(tmp_path):
    steps = []
    run_grid(asked(tmp_path, attentions=["mean"], seeds=[0], observe=lambda progress: steps.append(progress.step)))
    assert steps == list(range(1, 61))
    with pytest.raises(ConfigError, match="observe sees only runs of this process"):
        run_grid(asked(tmp_path, jobs=2, observe=print))


def test_an_exception_in_observe_is_a_failed_run(tmp_path):
    def observe(progress: Progress) -> None:
        steps.append(progress.step)
        if len(steps) == 2:
            raise ValueError("mine")

    steps: list[int] = []
    wanted = asked(tmp_path, attentions=["mean"], overrides=("train.steps=3", "train.warmup=1"), observe=observe)
    failed, done = run_grid(wanted)
    assert (failed.status, failed.reason, done.status) == ("failed", "ValueError: mine", "done")
    assert steps == [1, 2, 1, 2, 3]


UNSEEDED = """
import numpy as np
import tasks
from dataclasses import dataclass

@dataclass(frozen=True)
class Settings:
    rows: int = 64

class Noise(tasks.Task):
    name, title, settings = "NAME", "Noise", Settings
    section = {"train": {"steps": 4, "batch": 4, "lr": 1e-3, "warmup": 1, "evaluate_every": 4}}

    def prepare(self, settings, data_dir, cache, progress):
        rng = RNG
        def split(rows):
            values = rng.integers(0, 2, (rows, 8)).astype(np.uint8)
            return tasks.Split(values, np.full(rows, 8, np.int32), rng.integers(0, 2, rows))
        spec = tasks.Spec(vocab=3, classes=2, length=8)
        parts = {name: split(settings.rows) for name in ("train", "validation", "test")}
        return tasks.in_memory(self, settings, spec, parts, cache)

task = Noise()
"""


@pytest.mark.parametrize(
    ("name", "generator", "jobs"),
    [
        ("unseeded_alone", "np.random.default_rng()", 1),
        ("hashed", "np.random.default_rng(abs(hash('noise')))", 2),  # another seed in every process
    ],
)
def test_a_task_whose_data_are_not_a_function_of_its_settings(tmp_path, monkeypatch, name, generator, jobs):
    """In one process it is named before anything runs; with workers, once the other runs are done."""
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    files = [tmp_path / f"{stem}.py" for stem in (name, f"{name}_seeded")]
    for file, source in zip(files, (generator, "np.random.default_rng(0)"), strict=True):
        file.write_text(UNSEEDED.replace("NAME", file.stem).replace("RNG", source))
    tasks = [str(file) for file in files]
    with pytest.raises((DataError, WorkError), match=rf"{name}\.py: prepare makes different data at each call"):
        run_grid(asked(tmp_path / "runs", protocol="quick", attentions=["mean"], tasks=tasks, seeds=[0], jobs=jobs))
    if jobs == 1:
        run_grid(asked(tmp_path / "runs", protocol="quick", attentions=["mean"], tasks=tasks[1:], seeds=[0], jobs=1))
    (record,) = (load(path) for path in (tmp_path / "runs").glob("*.json"))
    assert (record.status, record.task, record.data["title"]) == ("done", f"{name}_seeded", "Noise")


def test_shards_are_a_partition(tmp_path):
    cells = plan(asked(tmp_path, attentions=["elu", "relu", "softmax"], seeds=[0, 1, 2]))
    parts = [part_of(cells, (i, 4)) for i in range(1, 5)]
    assert sorted((c.row, c.seed) for part in parts for c in part) == sorted((c.row, c.seed) for c in cells)
    assert [len(part) for part in parts] == [3, 2, 2, 2]
    (record,) = run_grid(asked(tmp_path / "runs", attentions=["elu"], shard=(2, 2)))
    assert record.seed == 1


def test_a_shard_on_the_command_line(tiny, tmp_path, capsys):
    command = ["--attn", "elu", "--task", "listops", "--protocol", tiny, "--seed", "0", "1", "--out", str(tmp_path)]
    assert main([*command, "--shard", "1/2"]) == 0
    (path,) = tmp_path.glob("*.json")
    assert json.loads(path.read_text())["seed"] == 0
    assert main([*command, "--shard", "3/3"]) == 0
    assert "part 3/3 has no" in capsys.readouterr().err


def test_a_shard_without_runs_is_done_and_one_without_data_is_not(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("LRA_DATA", raising=False)
    monkeypatch.setattr("tasks._find.ARENA", ("listops", "retrieval"))
    (tmp_path / "empty").mkdir()
    words = ["--attn", "elu", "--protocol", tiny, "--out", str(tmp_path), "--data-dir", str(tmp_path / "empty")]
    assert main([*words, "--task", "listops", "--shard", "2/2"]) == 0
    assert "part 2/2 has nothing to do: there are fewer runs than parts" in capsys.readouterr().err
    assert main([*words, "--task", "all", "--shard", "2/2"]) == 1
    said = capsys.readouterr().err
    assert "0 of 1 tasks have data; missing: retrieval" in said
    assert "nothing to do" not in said


def test_devices_and_shards_as_text():
    assert parse_devices("0-2,5") == ["cuda:0", "cuda:1", "cuda:2", "cuda:5"]
    assert parse_devices("cuda:1") == ["cuda:1"]
    assert parse_shard("2/8") == (2, 8)
    for wrong in ("", "0,0", "x", "0,x", "3-1"):
        with pytest.raises(ConfigError, match="--devices takes each GPU once"):
            parse_devices(wrong)
    for wrong in ("0/4", "5/4", "1", "1/0"):
        with pytest.raises(ConfigError, match="--shard takes i/n"):
            parse_shard(wrong)


def test_mistakes_are_told_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match="cuda:63 cannot be used: this machine has"):
        run_grid(asked(tmp_path, devices="63"))
    with pytest.raises(ConfigError, match="--jobs and --processes take numbers from 1"):
        run_grid(asked(tmp_path, jobs=-1))
    with pytest.raises(ConfigError, match="leave --jobs and --processes out"):
        run_grid(replace(asked(tmp_path), jobs=2, devices="0"))
    assert not list(tmp_path.glob("*.json"))


def test_runs_that_only_the_protocol_tells_apart_are_told_apart():
    runs = [
        SimpleNamespace(task="listops", row="elu", seed=seed, protocol=p) for seed, p in ((0, "a"), (0, "b"), (1, "a"))
    ]
    jobs: Any = [SimpleNamespace(run=run) for run in runs]
    assert titles(jobs) == ["[1/3] listops elu seed 0 a", "[2/3] listops elu seed 0 b", "[3/3] listops elu seed 1"]


def test_a_failed_attempt_is_not_the_outcome_of_the_next(tmp_path, monkeypatch, capfd):
    """A run that is tried again, and then stopped or in work by another process, has no outcome yet."""
    wanted = asked(tmp_path, attentions=["elu"], seeds=[0])

    def fail(*_):
        raise OSError("the disk was full")

    with monkeypatch.context() as patch:
        patch.setattr("lra.experiments.job.train_and_test", fail)
        (record,) = run_grid(wanted)
        assert record.status == "failed"
        (record,) = run_grid(wanted)
        assert record.status == "failed", "it has failed again"

    def busy(job, *arguments):
        with job.folder.lock():
            original(job, *arguments)

    original = engine.run_job
    with monkeypatch.context() as patch:
        patch.setattr("lra.experiments.engine.run_job", busy)
        (job,) = run_jobs(wanted, plan(wanted))
    assert job.record is None
    assert "skipped" in capfd.readouterr().err

    def pause(*_):
        raise Paused

    with monkeypatch.context() as patch:
        patch.setattr("lra.experiments.job.train_and_test", pause)
        (job,) = run_jobs(wanted, plan(wanted))
    assert job.record is None
    assert job.paused
    (record,) = run_grid(wanted)
    assert record.status == "done"
