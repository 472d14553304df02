"""What a record says about its checkout and its process."""

import subprocess
from pathlib import Path

import pytest
import torch

from lra.results.checkout import commit_of
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
