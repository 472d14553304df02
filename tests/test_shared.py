"""One run in several processes that the command starts: equal results, kills, pauses, the number of processes."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import asking
import pytest
import torch
from asking import run_grid
from computed import computed

import tasks
from lra.errors import ConfigError
from lra.experiments.local import crew
from lra.experiments.local.crew import Crew, choose_crew
from lra.experiments.plan import Request, plan
from lra.training.distributed import Group, alone

MANY = (
    "train.steps=20", "train.warmup=2", "train.evaluate_every=10", "train.batch=128", "train.gear=eager",
    "data.max_length=60", "data.validation_rows=500", "data.test_rows=500",
)  # fmt: skip
PRETRAINED = ("train.pretrain=masked", "train.pretrain_steps=20", "train.pretrain_batch=4", "train.pretrain_warmup=2")
CPU = torch.device("cpu")


asked = partial(asking.asked, attentions=["pola"], overrides=MANY)


@pytest.mark.slow
def test_three_processes_are_one(tmp_path, capfd):
    """Whatever the number of cores. Batches and evaluations have several micro-batches."""
    (one,) = run_grid(asked(tmp_path / "one", processes=1))
    (three,) = run_grid(asked(tmp_path / "three", processes=3))
    assert (one.environment["processes"], three.environment["processes"]) == (1, 3)
    assert one.environment["threads"] == three.environment["threads"] == 1
    assert computed(one) == computed(three)
    lines = capfd.readouterr().err.splitlines()
    assert not [line for line in lines if not line.startswith(("listops: ", "[1/1] listops pola seed 0: "))]


DEADLY = """
import os, signal, torch
from pathlib import Path
from attention_zoo import QKVAttention, register

@register("deadly", title="Deadly")
class Deadly(QKVAttention):
    def attend(self, q, k, v, keep=None):
        Deadly.calls = getattr(Deadly, "calls", 0) + 1
        if Deadly.calls == 24 and torch.distributed.is_initialized() and torch.distributed.get_rank() == 1:
            WHAT
        return v
"""


def once(tmp_path, what: str) -> str:
    """The path of a user's attention that executes `what` in the second process, in the first run only."""
    marker = tmp_path / "marker"
    path = tmp_path / "deadly.py"
    first = (
        f"if not os.path.exists({str(marker)!r}):\n                os.mkdir({str(marker)!r})\n                {what}"
    )
    path.write_text(DEADLY.replace("WHAT", first))
    return str(path)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "its process ended by signal SIGKILL (out of memory?); the same comm"),
        pytest.param("raise ValueError('of this one alone')", "ValueError: of this one alone", marks=pytest.mark.slow),
    ],
)
def test_one_of_two_fails(tmp_path, capfd, what, reason):
    """One line, a record with status failed and no waiting process; the same command goes on."""
    spec = once(tmp_path, what)
    wanted = asked(tmp_path / "runs", attentions=[spec], processes=2)
    (record,) = run_grid(wanted)
    assert record.status == "failed"
    assert record.reason.startswith(reason)
    lines = capfd.readouterr().err.splitlines()
    assert sum("failed" in line for line in lines) == 1, lines
    (record,) = run_grid(replace(wanted, processes=1))
    assert record.status == "done"
    (calm,) = run_grid(replace(wanted, out=tmp_path / "calm", processes=1))
    assert computed(record) == computed(calm)


MOODY = """
import torch
from attention_zoo import QKVAttention, register

@register("moody", title="Moody")
class Moody(QKVAttention):
    '''Counts its calls in training, and draws in evaluations, too.'''

    def __init__(self, dims):
        super().__init__(dims)
        if COUNTS:
            self.register_buffer("calls", torch.zeros(()))

    def attend(self, q, k, v, keep=None):
        if COUNTS and self.training:
            self.calls += 1
        return v * (torch.rand(()) + (self.calls.clone() / 100 if COUNTS else 0))
"""


@pytest.mark.usefixtures("quick_workers")
@pytest.mark.parametrize("counts", [True, False])
def test_what_an_attention_draws_and_counts(tmp_path, capfd, counts):
    """Draws depend on the micro-batch only. What depends on their order is left to one process."""
    path = tmp_path / "moody.py"
    path.write_text(MOODY.replace("COUNTS", str(counts)))
    wanted = asked(tmp_path / "two", attentions=[str(path)], processes=2)
    (two,) = run_grid(wanted)
    assert two.status == "done", two.reason
    assert ("one process computes them all" in capfd.readouterr().err) == counts
    (one,) = run_grid(replace(wanted, out=tmp_path / "one", processes=1))
    assert computed(one) == computed(two)


SLOW = """
import time
from attention_zoo import QKVAttention, register

@register("NAME", title="NAME")
class Slow(QKVAttention):
    def attend(self, q, k, v, keep=None):
        time.sleep(SECONDS)
        return v
"""


@pytest.mark.usefixtures("quick_workers")
def test_the_last_run_of_a_grid_goes_on_in_two(tmp_path, monkeypatch, capfd):
    """It gets a second process when the other run has ended, and its results do not change."""
    for name, number in (("APART_TOKENS", 0), ("SHARED_TOKENS", 0)):
        monkeypatch.setattr(crew, name, number)
    monkeypatch.setattr("lra.experiments.local.crew.count_cores", lambda: (2, 2))
    monkeypatch.setattr("lra.experiments.local.workers.WORTH_A_PAUSE", 0.0)
    specs = []
    for name, seconds in (("slow", 0.02), ("quick", 0.0)):
        path = tmp_path / f"{name}.py"
        path.write_text(SLOW.replace("NAME", name).replace("SECONDS", str(seconds)))
        specs.append(str(path))
    wanted = asked(tmp_path / "both", attentions=specs)
    slow, quick = run_grid(wanted)
    assert (slow.environment["processes"], quick.environment["processes"]) == (2, 1)
    assert "slow seed 0: pauses, to go on in more processes" in capfd.readouterr().err
    (calm,) = run_grid(replace(wanted, attentions=specs[:1], out=tmp_path / "alone", processes=1))
    assert computed(calm) == computed(slow)


@pytest.mark.slow
def test_a_run_takes_cores_that_become_free(tmp_path, monkeypatch, capfd):
    """Other programs use one of two cores when the run begins, and none when the command looks again."""
    for name, number in (("APART_TOKENS", 0), ("SHARED_TOKENS", 0)):
        monkeypatch.setattr(crew, name, number)
    monkeypatch.setattr("lra.training.cores.own_cores", lambda: 2)
    monkeypatch.setattr("lra.training.cores.usable_cores", lambda: 1)
    monkeypatch.setattr("lra.training.cores.busy_cores", lambda _: 1.0)
    monkeypatch.setattr("lra.experiments.local.workers.WORTH_A_PAUSE", 0.0)
    monkeypatch.setattr("lra.experiments.local.workers.LOOK_AGAIN", 0.2)
    path = tmp_path / "slow.py"
    path.write_text(SLOW.replace("NAME", "slow").replace("SECONDS", "0.05"))
    (record,) = run_grid(asked(tmp_path / "runs", attentions=[str(path)]))
    assert record.environment["processes"] == 2
    said = capfd.readouterr().err
    assert "other programs keep 1 of 2 cores busy and are not disturbed; --processes 2 takes all" in said
    assert "slow seed 0: pauses, to go on in more processes" in said


def test_how_many_processes_a_run_gets():
    grid = Crew(workers=8, at_once=8)
    assert grid.size(idle=8, left=20, running=0, shared=True) == 1
    assert grid.size(idle=8, left=3, running=0, shared=True) == 2
    assert grid.size(idle=6, left=2, running=1, shared=True) == 3
    assert grid.size(idle=3, left=1, running=2, shared=True) == 3
    assert grid.size(idle=8, left=1, running=0, shared=True) == 8
    assert grid.size(idle=8, left=1, running=0, shared=False) == 1
    assert grid.size(idle=0, left=1, running=8, shared=True) == 0
    two = Crew(workers=8, at_once=2)
    assert two.size(idle=8, left=9, running=0, shared=True) == 4
    assert two.size(idle=4, left=8, running=2, shared=True) == 0
    pairs = Crew(workers=4, at_once=2, each=2)
    assert pairs.size(idle=4, left=9, running=0, shared=False) == 2
    assert pairs.size(idle=1, left=9, running=1, shared=True) == 0


@pytest.fixture
def machine(monkeypatch):
    """A function that chooses the processes for runs of these numbers of tokens on a machine of `cores` and GiB."""

    def choose(*tokens: int, cores: int = 4, memory: int = 64, group: Group | None = None, **asked: Any) -> Crew:
        wanted: Any = {"attentions": [], "tasks": [], "seeds": []} | asked
        request = Request(**wanted)
        runs: Any = [SimpleNamespace(data_key="key", tokens=number) for number in tokens]
        monkeypatch.setattr(crew, "tokens", lambda run, _: run.tokens)
        monkeypatch.setattr("lra.training.cores.own_cores", lambda: max(4, cores))
        monkeypatch.setattr("lra.training.cores.usable_cores", lambda: cores)
        monkeypatch.setattr("lra.training.cores.free_bytes", lambda: memory << 30)
        prepared: Any = {"key": None}
        return choose_crew(request, runs, prepared, group or alone(CPU))

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return choose


@pytest.mark.parametrize(
    ("overrides", "pair", "expected"),
    [
        ((), False, 60 * 8 * 30),
        ((), True, 60 * 8 * 30 * 2),
        (PRETRAINED, False, (60 * 8 + 20 * 4) * 30),
        (("model.length=100",), False, 60 * 8 * 100),
        ((*PRETRAINED, "model.length=100"), True, (60 * 8 + 20 * 4) * 100 * 2),
    ],
    ids=["plain", "pair", "pretrained", "length", "all of them"],
)
def test_how_many_tokens_a_run_trains_on(tmp_path, overrides, pair, expected):
    """60 steps of 8 samples of 30 tokens; 20 steps of 4 before them; two documents to a sample."""
    (run,) = plan(asked(tmp_path, overrides=overrides))
    prepared: Any = SimpleNamespace(data=SimpleNamespace(spec=tasks.Spec(vocab=16, classes=10, length=30, pair=pair)))
    assert crew.tokens(run, prepared) == expected


LONG, SHORT = 10**9, 10**6


def test_the_processes_of_a_command(machine, monkeypatch):
    assert machine(LONG) == Crew(4, 4)
    assert machine(SHORT) == machine(SHORT, SHORT) == Crew(), "not worth the start of a process"
    assert machine(*[4 * SHORT] * 3) == Crew(3, 3), "side by side"
    assert machine(*[4 * SHORT] * 9) == Crew(4, 4)
    assert machine(*[LONG] * 9) == Crew(4, 4)
    assert machine(LONG, jobs=1) == Crew(4, 1)
    assert machine(SHORT, processes=3) == Crew(3, 1, 3)
    assert machine(*[SHORT] * 5, processes=2) == Crew(4, 2, 2)
    assert machine(SHORT, SHORT, jobs=2) == Crew(2, 2)
    assert machine(LONG, jobs=1, processes=1) == Crew(1, 1, 1)
    assert machine(LONG, observe=print) == Crew()
    assert machine(LONG, group=Group(0, 2, CPU)) == Crew(), "torchrun has started the processes"
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert machine(LONG) == Crew(2, 2)


def test_cores_that_others_use_are_left_to_them(machine, capfd):
    assert machine(LONG, LONG, cores=3) == Crew(4, 4, now=3), "later, perhaps, all four"
    assert machine(*[4 * SHORT] * 9, cores=3) == Crew(4, 4, now=3)
    assert "other programs keep 1 of 4 cores busy and are not disturbed; --jobs 4 takes all" in capfd.readouterr().err
    assert machine(LONG, cores=3) == Crew(4, 4, now=3)
    assert "--processes 4 takes all" in capfd.readouterr().err
    assert machine(*[4 * SHORT] * 3, cores=3) == Crew(3, 3), "enough for them"
    assert not capfd.readouterr().err


def test_memory_limits_the_processes(machine, capfd):
    assert machine(LONG, cores=8, memory=3) == Crew(3, 3)
    assert machine(LONG, cores=2, memory=3) == Crew(3, 3, now=2)
    assert "3 processes instead of 8: 3.0 GiB of memory are free, each may need one" in capfd.readouterr().err
    assert machine(LONG, processes=8, memory=2) == Crew(2, 1, 2)
    assert machine(LONG, LONG, jobs=2, processes=4, memory=4) == Crew(4, 1, 4)
    assert machine(LONG, cores=4, memory=0) == Crew(4, 4), "unknown"


def test_processes_share_a_cpu_only(machine):
    gpu = alone(torch.device("cuda:0"))
    assert machine(LONG, LONG, group=gpu) == Crew(1, 1, 1)
    assert machine(LONG, LONG, jobs=2, group=gpu) == Crew(2, 2, 1)
    with pytest.raises(ConfigError, match="--processes shares a run among the cores of a CPU"):
        machine(LONG, processes=2, group=gpu)
