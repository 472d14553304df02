"""What a record says about its checkout and its process."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from asking import asked, run_grid

from lra.errors import ConfigError
from lra.experiments.cluster import run_process
from lra.experiments.local.worker import WorkerSettings, work_through
from lra.results.checkout import commit, commit_of
from lra.results.machine import CLEAR, peak_bytes, reset_peak


def git(root: Path, *arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", "-C", str(root), *who, *arguments], check=True, capture_output=True)


def test_a_record_does_not_make_the_checkout_a_changed_one(tmp_path: Path):
    root = tmp_path.resolve()
    assert commit_of(root) == {"commit": None, "dirty": None}
    git(root, "init")
    (root / "code.py").write_text("a = 1\n")
    git(root, "add", ".")
    git(root, "commit", "-m", "first")
    found = commit_of(root)
    assert len(found["commit"]) == 40
    assert found["dirty"] is False
    (root / "results").mkdir()
    (root / "results" / "record.json").write_text("{}")
    assert commit_of(root) == found
    (root / "code.py").write_text("a = 2\n")
    assert commit_of(root)["dirty"] is True
    (root / "inner").mkdir()
    assert commit_of(root / "inner") == {"commit": None, "dirty": None}


@pytest.fixture
def checkout(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What `commit` finds in the checkout, which the test may change."""
    state = {"commit": "a" * 40, "dirty": False}
    monkeypatch.setattr("lra.results.checkout.commit_of", lambda _: dict(state))
    commit.cache_clear()
    yield state
    commit.cache_clear()


def test_a_record_names_the_code_that_ran_and_not_an_edit_during_the_run(checkout: dict[str, Any], tmp_path: Path):
    (record,) = run_grid(asked(tmp_path, observe=lambda _: checkout.update(commit="b" * 40, dirty=True)))
    assert (record.environment["commit"], record.environment["dirty"]) == ("a" * 40, False)


def test_other_processes_look_at_the_checkout_before_they_work(checkout: dict[str, Any], monkeypatch):
    """A worker stops here because its device is missing, the process of a node because its order is empty."""
    monkeypatch.setattr("lra.console.show", lambda **_: None)
    with pytest.raises(ConfigError, match="cannot be used here"):
        work_through(None, "absent", WorkerSettings(None, "", 0, 0.0))  # pyright: ignore[reportArgumentType]
    assert commit.cache_info().currsize == 1
    commit.cache_clear()
    with pytest.raises(KeyError):
        run_process.do({}, print)
    checkout["dirty"] = True
    assert commit()["dirty"] is False


@pytest.mark.skipif(not CLEAR.exists(), reason="this system has no peak that can be reset")
def test_peak_memory_leaves_out_what_an_earlier_run_has_left():
    """The C library keeps freed blocks below one in use, which must not count in the next run's peak."""
    cpu = torch.device("cpu")
    blocks = [torch.ones(2**14) for _ in range(4000)]  # of 64 KB, too small to be mapped one by one
    last, before = blocks[-1], peak_bytes(cpu) or 0
    blocks.clear()
    reset_peak(cpu)
    assert (peak_bytes(cpu) or 0) < before - 150_000_000
    assert last.sum() == 2**14
