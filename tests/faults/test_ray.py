"""Grids on a real Ray cluster of three nodes on this machine, one of which is killed during a run. Needs `[ray]`."""

import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from computed import computed_in

from lra.results.locks import holder_of
from lra.results.record import load, save

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray: pip install -e '.[ray]'"),
]
CLUSTER = """
import json, sys
from ray.cluster_utils import Cluster

settings = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80_000_000}
cluster = Cluster(initialize_head=True, head_node_args=settings)
nodes = [cluster.add_node(**settings) for _ in range(2)]
raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)
sys.stdin.read()
cluster.shutdown()
"""
ATTENTIONS = os.environ.get("RAY_TEST_ATTENTIONS", "elu pola").split()
TASKS = os.environ.get("RAY_TEST_TASKS", "listops").split()


@pytest.fixture
def cluster():
    """The address of the head, and the process ids of the raylets of the other two nodes."""
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "RAY_DEDUP_LOGS": "0"}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CLUSTER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = next(line for line in process.stdout if line.startswith("{"))
        about = json.loads(line)
        yield about["address"], about["raylets"]
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
        process.stdout.close()


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError):
        return 0


def below(pid: int) -> list[int]:
    """The ids of all descendants of a process."""
    numbers = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    children = [number for number in numbers if parent_of(number) == pid]
    return [*children, *(number for child in children for number in below(child))]


def wait_for(what: Callable[[], object], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "no sign of it"
        time.sleep(0.05)


def command(out: Path, *more: str) -> list[str]:
    words = ["--attn", *ATTENTIONS, "--task", *TASKS, "--seed", "0", "1", "--protocol", "quick", "--device", "cpu"]
    words += ["--set", "train.steps=60", "train.warmup=6", "train.evaluate_every=20", "--out", str(out)]
    return [sys.executable, "run_lra.py", *words, *more]


def run(words: list[str], **more) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, **more)


def tables_of(out: Path) -> dict[str, bytes]:
    """Every table of a report on these records without their times and memory."""
    runs = out.with_name(f"{out.name}-without-times") / "runs"
    runs.mkdir(parents=True)
    for record in map(load, sorted(out.glob("*.json"))):
        curve = [point | {"seconds": 0.0} for point in record.curve]
        plain = {"seconds": {}, "tokens_per_second": None, "peak_bytes": None, "created": ""}
        save(replace(record, curve=curve, **plain), runs)
    words = [sys.executable, str(ROOT / "run_lra.py"), "report", "runs", "--out", "report"]
    subprocess.run(words, cwd=runs.parent, env=os.environ, check=True, capture_output=True)
    endings = {".md", ".csv", ".tex", ".json"}
    tables = {path.name: path.read_bytes() for path in (runs.parent / "report").rglob("*") if path.suffix in endings}
    assert tables
    return tables


def test_three_nodes_one_of_which_is_killed_amid_a_run(cluster, tmp_path):
    address, raylets = cluster
    out = tmp_path / "ray"
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            command(out, "--engine", "ray", "--address", address), cwd=ROOT, stderr=said, stdout=said,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def holders() -> list[int]:
        """The processes of unfinished runs with a checkpoint, on nodes other than the head."""
        begun = [
            path.parent for path in out.glob("work/*/resume.pt") if not (out / f"{path.parent.name}.json").exists()
        ]
        held = [holder.pid for folder in begun if (holder := holder_of(folder / "lock"))]
        return [pid for pid in held if parent_of(parent_of(pid)) in raylets]

    try:
        wait_for(lambda: holders() or process.poll() is not None)
        killed = parent_of(parent_of(holders()[0]))
        for number in [killed, *below(killed)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        assert process.wait(timeout=1800) == 0, (tmp_path / "said").read_text()
    finally:
        process.kill()
    text = (tmp_path / "said").read_text()
    assert "it is started on the next free node" in text
    assert re.search(r"goes on from step \d+ on ", text), text
    local = tmp_path / "local"
    assert run(command(local, "--jobs", "1")).returncode == 0
    assert len(computed_in(out)) == len(ATTENTIONS) * len(TASKS) * 2
    assert computed_in(out) == computed_in(local)
    assert tables_of(out) == tables_of(local)


def test_a_driver_that_is_killed_and_started_again_finds_everything(cluster, tmp_path):
    address, _ = cluster
    words = command(tmp_path, "--engine", "ray", "--address", address)
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for(lambda: list(tmp_path.glob("work/*/metrics.jsonl")) or process.poll() is not None)
    process.kill()
    process.wait()
    done = run(words)
    assert done.returncode == 0, done.stderr
    assert len(computed_in(tmp_path)) == len(ATTENTIONS) * len(TASKS) * 2
    assert not list(tmp_path.glob("work/*/resume*.pt"))


def test_a_signal_saves_every_run(cluster, tmp_path):
    address, _ = cluster
    words = command(tmp_path, "--engine", "ray", "--address", address)
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(words, cwd=ROOT, stderr=said, stdout=said)
    wait_for(lambda: list(tmp_path.glob("work/*/metrics.jsonl")) or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=300) == 75, (tmp_path / "said").read_text()
    assert re.search(r"saved at step \d+ of 60, stops", (tmp_path / "said").read_text())


def test_what_a_wrong_address_is_told(cluster, tmp_path):
    address, _ = cluster
    done = run(command(tmp_path, "--engine", "ray", "--address", f"127.0.0.1:{int(address.rpartition(':')[2]) + 7}"))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: no cluster answers at --address 127.0.0.1:")
