"""The share of the machine that a run may use: hyper-threads, quotas, the load of others, memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lra.training import cores
from lra.training.cores import busy_cores, free_bytes, physical_cores, threads_per_process, usable_cores

ROOT = Path(__file__).parent.parent


def test_the_machine_is_looked_at():
    assert 0 <= busy_cores(seconds=0.05) <= (os.cpu_count() or 1) + 1e-6
    assert free_bytes() > 0
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


def test_files_in_a_containers_memory_are_given_back(tmp_path, monkeypatch):
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("1000\n")
    (group / "memory.current").write_text("900\n")
    (group / "memory.stat").write_text("anon 300\ninactive_file 500\n")
    monkeypatch.setattr("lra.training.cores.Path", lambda name: tmp_path / name.lstrip("/"))
    assert free_bytes() == 600


@pytest.fixture
def eight(tmp_path, monkeypatch):
    """A machine of four cores with two hyper-threads each, all allowed and idle."""
    for number in range(8):
        folder = tmp_path / f"cpu{number}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{number % 4},{number % 4 + 4}\n")
    monkeypatch.setattr(cores, "CPUS", tmp_path)
    monkeypatch.setattr(cores, "affinity", lambda: frozenset(range(8)))
    monkeypatch.setattr(cores, "busy_cores", lambda _: 0.0)
    monkeypatch.setattr("loky.backend.context.cpu_count", lambda **_: 8)
    physical_cores.cache_clear()
    yield monkeypatch
    physical_cores.cache_clear()


def test_hyper_threads_of_a_core_count_once(eight):
    assert usable_cores() == 4
    eight.setattr(cores, "affinity", lambda: frozenset({0, 4, 1}))
    assert usable_cores() == 2, "0 and 4 are one core"


def test_a_quota_limits(eight):
    eight.setattr("loky.backend.context.cpu_count", lambda **_: 3)
    assert usable_cores() == 3


@pytest.mark.parametrize(("busy", "left"), [(0.3, 4), (5.2, 3), (7.9, 1), (8.0, 1)])
def test_cores_that_others_keep_busy_do_not_count(eight, busy, left):
    eight.setattr(cores, "busy_cores", lambda _: busy)
    assert usable_cores() == left


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_taskset_is_seen():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from lra.training.cores import usable_cores; print(usable_cores())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_busy_processors_are_counted_one_by_one(tmp_path, monkeypatch):
    """cpu0 is busy, cpu1 half, cpu2 idle; the first line sums all up."""
    stat, ticks = tmp_path / "stat", iter((0, 100))

    def write():
        tick = next(ticks)
        lines = ["cpu  9 9 9 9 9 9 9 9"]
        lines += [f"cpu{n} {tick * busy // 2} 0 0 {tick * (2 - busy) // 2} 0 0 0 0" for n, busy in enumerate((2, 1, 0))]
        stat.write_text("\n".join([*lines, "intr 5"]))

    monkeypatch.setattr(cores, "STAT", stat)
    monkeypatch.setattr(cores.time, "sleep", lambda _: write())
    write()
    assert busy_cores() == 1.5
    ticks = iter((0, 100))
    write()
    assert busy_cores(frozenset({1, 2})) == 0.5


@pytest.mark.parametrize(("text", "threads"), [(None, 1), ("", 1), ("4", 4), ("4,2", 4), ("0", 1), ("many", 1)])
def test_threads_per_process(monkeypatch, text, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if text is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert threads_per_process() == threads
