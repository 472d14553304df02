"""Short forms of parts of `make soak`: a killed grid and odd inputs; and how a soak reports a fault."""

import time
from pathlib import Path

import pytest
from soak import fuzz
from soak.commands import Command, age, contents, leftovers
from soak.counts import Plan
from soak.kills import words_of

from lra.cli import main


def test_a_killed_grid_ends_like_one_that_was_not(tmp_path: Path):
    """The grid runs in its own process and is killed by SIGKILL; the next command removes what it left."""
    runs, calm = tmp_path / "runs", tmp_path / "calm"
    command = Command(words_of(runs, 1), tmp_path / "said", fresh=True)
    deadline = time.monotonic() + 300
    while not list(runs.glob("work/*/resume.pt")) and command.poll() is None:
        assert time.monotonic() < deadline, "no sign of a run"
        time.sleep(0.002)
    command.kill()
    assert command.wait(60) == -9
    assert main(words_of(runs, 1)) == 0
    assert main(words_of(calm, 1)) == 0
    assert len(contents(calm)) == 2
    assert contents(runs) == contents(calm)
    age(runs)
    assert main(words_of(runs, 1)) == 0
    assert not leftovers(runs)


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
