"""Short forms of parts of `make soak`: a killed grid and odd inputs; and how a soak reports a fault."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from soak import fuzz
from soak.commands import Command, age, contents, leftovers
from soak.counts import Plan
from soak.kills import words_of
from torch import Tensor

from lra.cli import main
from lra.training.batches import Samples
from lra.training.run_folder import RunFolder
from lra.training.step import Step


def test_a_killed_grid_ends_like_one_that_was_not(tmp_path: Path, monkeypatch):
    """The grid runs in its own process and is killed by SIGKILL after a checkpoint of its first run.

    The same command ends with the records, weights and logs of a grid that was left alone, and the next one removes
    what the killed one left.
    """
    runs, calm = tmp_path / "runs", tmp_path / "calm"
    words, others = (words_of(out, 1, "train.evaluate_every=10") for out in (runs, calm))
    steps, original = list[int](), Step.__call__

    def counted(step: Step, samples: Samples, rows: np.ndarray, number: int) -> Tensor:
        steps.append(number)
        return original(step, samples, rows, number)

    command = Command(words, tmp_path / "said", fresh=True)
    deadline = time.monotonic() + 300
    while not [path for path in runs.glob("work/*/resume.pt") if evaluations(path.parent) >= 2]:
        assert command.poll() is None, command.text()
        assert time.monotonic() < deadline, "no sign of a run"
        time.sleep(0.002)
    command.kill()
    assert command.wait(60) == -9
    (saved,) = (RunFolder(path.parent).load_state() for path in runs.glob("work/*/resume.pt"))
    assert saved is not None
    assert main(others) == 0
    monkeypatch.setattr(Step, "__call__", counted)
    assert main(words) == 0
    assert steps[0] == saved["progress"]["step"] > 0, "it went on"
    assert len(contents(calm)) == 2
    assert contents(runs) == contents(calm)
    assert weights_and_logs(runs) == (found := weights_and_logs(calm))
    assert sorted(Path(name).name for name in found) == sorted(
        2 * ["best.safetensors", "last.safetensors", "metrics.jsonl"]
    )
    age(runs)
    assert main(words) == 0
    assert not leftovers(runs)


def evaluations(folder: Path) -> int:
    return (folder / "metrics.jsonl").read_text().count('"validation_loss"')


def weights_and_logs(out: Path) -> dict[str, Any]:
    """Path in the folder -> the bytes of weights, and the lines of a log without times."""
    files: dict[str, Any] = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.safetensors")}
    for path in out.rglob("metrics.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        files[str(path.relative_to(out))] = [line | {"seconds": 0.0} for line in lines]
    return files


@pytest.mark.parametrize("name", fuzz.KINDS)
def test_odd_inputs(name: str, tmp_path: Path):
    tried, wrong = fuzz.fuzz(name, 0, 50, 60.0, tmp_path)
    assert tried
    assert not wrong


def test_a_fault_is_counted_and_shown(tmp_path: Path, capsys):
    plan = Plan(tmp_path, 0, 0, 0, 0)
    plan.fault("losses", "a record is missing", 2)
    assert plan.table().endswith("| tracebacks | 0 |\n| losses | 2 |")
    assert capsys.readouterr().out == "losses: a record is missing\n"
