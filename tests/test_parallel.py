"""One run in two gloo processes: equal to one process with dropout 0, resumed, and with mistakes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from asking import TINY, asked, run_grid, stop_at
from safetensors.numpy import load_file

from lra.cli import main
from lra.errors import ConfigError
from lra.results.record import load
from lra.training.distributed import Group, alone, check_batches, join
from lra.training.turns import Turns, in_common

ROOT = Path(__file__).parent.parent


def together(*arguments: str, processes: int = 2) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, "run_lra.py", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )


def run_of(tiny, out, *attentions: str) -> list[str]:
    command = ["--attn", *attentions, "--task", "listops", "--protocol", tiny, "--device", "cpu", "--out", str(out)]
    return [*command, "--set", "model.dropout=0.0"]


def lines_of(out, row: str) -> list[dict]:
    return [json.loads(line) for line in next(out.glob(f"work/*-{row}-*/metrics.jsonl")).read_text().splitlines()]


LOSING = """
import torch
from attention_zoo import QKVAttention, register

@register("losing", title="Losing")
class Losing(QKVAttention):
    def __init__(self, dims):
        super().__init__(dims)
        self.scale = torch.nn.Parameter(torch.ones(()))

    def attend(self, q, k, v, keep=None):
        return v * torch.where(self.scale == 1, self.scale, torch.inf)
"""


@pytest.fixture(scope="module")
def both(cache, tmp_path_factory):
    """The folders of two runs in one process and in two, one of which diverges, and the output of the two."""
    assert cache.is_dir()
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    losing = one / "losing.py"
    losing.write_text(LOSING)
    attentions = ["pola", str(losing)]
    run_grid(asked(one, attentions=attentions, overrides=("model.dropout=0.0",)))
    said = together(*run_of(TINY, two, *attentions))
    assert said.returncode == 0, said.stderr
    return one, two, said


def test_two_processes_are_one_run(both):
    """Predictions, losses and weights are equal bit for bit."""
    one, two, _ = both
    first, second = (load(next(folder.glob("*-pola-*.json"))) for folder in (one, two))
    assert second.status == "done"
    assert (first.identity, first.test_rows) == (second.identity, second.test_rows)
    assert (first.environment["processes"], second.environment["processes"]) == (1, 2)
    assert same_curve(first) == same_curve(second)
    assert len(first.curve) == 3
    assert first.predictions == second.predictions
    for name in ("best", "last"):
        weights, others = (load_file(next(folder.glob(f"work/*-pola-*/{name}.safetensors"))) for folder in (one, two))
        for key, value in weights.items():
            np.testing.assert_array_equal(others[key], value, err_msg=key)


def same_curve(record) -> list[dict]:
    """A record's curve without its clock."""
    return [{name: value for name, value in point.items() if name != "seconds"} for point in record.curve]


def test_one_process_writes_and_speaks(both):
    one, two, said = both
    logs = [lines_of(folder, "pola") for folder in (one, two)]
    for name in ("step", "real_tokens"):
        assert [line[name] for line in logs[0]] == [line[name] for line in logs[1]]
    assert said.stdout.count("| pola ") == 1
    assert said.stderr.count("pola seed 0: test ") == said.stderr.count(": test ") == 1
    assert len(list(two.glob("*-pola-*.json"))) == 1
    assert {path.name for path in next(two.glob("work/*-pola-*")).iterdir()} == {
        "lock", "metrics.jsonl", "best.safetensors", "last.safetensors",
    }  # fmt: skip


def test_divergence_is_decided_alike(both):
    one, two, _ = both
    first, second = (load(next(folder.glob("*-losing-*.json"))) for folder in (one, two))
    assert first.status == second.status == "diverged"
    assert first.reason == second.reason


@pytest.mark.usefixtures("quick_workers")
def test_a_run_of_one_process_goes_on_in_two(tmp_path):
    """One process reads the checkpoint for both; the results are those of an undisturbed run, bit for bit."""

    with pytest.raises(KeyboardInterrupt):
        run_grid(asked(tmp_path / "a", observe=stop_at(45)))
    (record,) = run_grid(asked(tmp_path / "a", processes=2))
    (calm,) = run_grid(asked(tmp_path / "b"))
    assert (record.environment["processes"], calm.environment["processes"]) == (2, 1)
    assert same_curve(record) == same_curve(calm)
    lines, others = lines_of(tmp_path / "a", "elu"), lines_of(tmp_path / "b", "elu")
    assert [line["step"] for line in lines] == [line["step"] for line in others]
    assert [line["train_loss"] for line in lines] == [line["train_loss"] for line in others]


def test_a_batch_that_cannot_be_shared():
    """GPUs need a divisible batch. Processes on a CPU take turns, and can share every batch."""
    check_batches(Group(0, 2, torch.device("cpu")), [("listops", 7)])
    pair = Group(0, 2, torch.device("cuda:0"))
    check_batches(pair, [("listops", 8)])
    with pytest.raises(ConfigError, match=r"listops: train\.batch=7 cannot be shared by 2 processes; take a number"):
        check_batches(pair, [("text", 8), ("listops", 7)])


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_a_mistake_is_reported_once(tiny, tmp_path, monkeypatch, capsys, rank, lines):
    """Every process finds the mistake; only process 0 reports it."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "torchrun's")
    monkeypatch.setenv("RANK", rank)
    assert main([*run_of(tiny, tmp_path, "pola"), "train.batch=0"]) == 2
    assert capsys.readouterr().err.count("train.batch must be at least 1") == lines
    assert not list(tmp_path.glob("*.json"))


class Second(Group):
    """The second of two processes; the first has taken turns 0, 2 and 4."""

    turns = iter((1, 3, 5, 6))

    def take_turn(self) -> int:
        return next(self.turns)


def test_a_turn_that_fails_is_taken_again_with_those_before_it():
    """This also holds when one of the repeated turns fails."""
    turns = Turns(Second(1, 2, torch.device("cpu")))
    seen = [[], [], []]
    for attempt, until in zip(seen, (5, 3, 9), strict=True):
        for number in turns.hand_out(6):
            attempt.append(number)
            if number == until:
                break
    assert seen == [[1, 3, 5], [1, 3], [1, 3, 5]]
    assert turns.taken == [1, 3, 5]


@pytest.mark.parametrize("linux", [True, False])
def test_memory_in_common(monkeypatch, linux):
    if not linux:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    elif not hasattr(os, "memfd_create"):
        pytest.skip("needs Linux")
    tensor = in_common(alone(torch.device("cpu")), 3, 5)
    assert tensor.shape == (3, 5)
    assert not tensor.any()
    tensor[1] = 2.0
    assert tensor.sum() == 10


def test_processes_on_a_cpu_are_of_one_machine(monkeypatch):
    for name, value in (("RANK", "2"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="processes of one machine; on several machines use --shard"):
        join("cpu")


def test_a_group_of_one_sends_nothing():
    """torch.distributed is not started; every method is the identity."""
    group, flat, counts = alone(torch.device("cpu")), torch.tensor([1.0, 2.0]), np.array([3, 4])
    assert group.broadcast("value") == "value"
    assert group.rank_zero_first(lambda: 5) == 5
    group.average(flat)
    assert flat.tolist() == [1.0, 2.0]
    assert group.add(counts) is counts
    assert not torch.distributed.is_initialized()


def test_a_failure_in_one_process_ends_all(tiny, tmp_path):
    own = tmp_path / "broken.py"
    own.write_text(
        "import os\nfrom attention_zoo import QKVAttention, register\n\n\n@register('broken', title='Broken')\n"
        "class Broken(QKVAttention):\n    def attend(self, q, k, v, keep=None):\n"
        "        if self.training and os.environ.get('RANK') == '1':\n"  # also before the first step
        "            raise ValueError('of this one alone')\n"
        "        return v\n"
    )
    said = together(*run_of(tiny, tmp_path, str(own)))
    assert said.returncode != 0
    assert "process 1 failed: ValueError: of this one alone" in said.stderr
    assert not [path for path in tmp_path.glob("*.json") if load(path).status == "done"]


def join_twice(rank, port, answers):
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=str(port))  # fmt: skip
    torch.set_num_threads(1)
    sums = []
    for steps in (4, 7):
        flat = torch.zeros(3)
        turns = Turns(join("cpu"), flat)
        for step in range(steps):
            turns.begin()
            for _ in turns.hand_out(3):
                flat += 10 * step + 1
                turns.tokens.append(1)
            turns.add_up()
            sums.append(float(flat[0]))
    if rank == 0:
        answers.put(sums)


def test_a_second_grid_of_the_same_processes_takes_its_own_turns(forks):
    """As the seeds of a sweep after its pilots: no micro-batch counts as already taken."""
    answers = forks.Queue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [forks.Process(target=join_twice, args=(rank, port, answers), daemon=True) for rank in (0, 1)]
    for process in both:
        process.start()
    try:
        assert answers.get(timeout=120) == [3.0 * (10 * step + 1) for steps in (4, 7) for step in range(steps)]
        for process in both:
            process.join(60)
        assert [process.exitcode for process in both] == [0, 0]
    finally:
        for process in both:
            process.kill()
