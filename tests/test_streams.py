"""Commands whose output nobody reads, or whose log does not fit on the disk."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def start(*words, **streams):
    return subprocess.Popen([sys.executable, "run_lra.py", *words], cwd=ROOT, **streams)


def training(tiny, out):
    few = ("--set", "train.steps=2", "train.warmup=1", "train.evaluate_every=2")
    return "--attn", "mean", "--task", "listops", "--protocol", tiny, *few, "--out", str(out)


def test_a_training_goes_on_without_a_reader(tiny, tmp_path):
    """stderr is a pipe without a reader, as under `2>&1 | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    run = start(*training(tiny, tmp_path), stdout=subprocess.DEVNULL, stderr=writing)
    os.close(writing)
    assert run.wait() == 0
    assert len(list(tmp_path.glob("*.json"))) == 1


@needs_full
def test_a_training_goes_on_with_a_full_log(tiny, tmp_path):
    with FULL.open("w") as full:
        assert start(*training(tiny, tmp_path), stdout=subprocess.DEVNULL, stderr=full).wait() == 0
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_a_listing_without_a_reader_ends_quietly():
    reading, writing = os.pipe()
    os.close(reading)
    run = start("list", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (run.communicate()[1], run.returncode) == (b"", 0)


@needs_full
def test_a_listing_for_a_full_disk_says_so():
    with FULL.open("w") as full:
        run = start("list", stdout=full, stderr=subprocess.PIPE, text=True)
        assert run.communicate()[1] == "error: cannot print what was asked for: No space left on device\n"
    assert run.returncode == 2


def test_a_mistake_without_a_reader_is_still_exit_code_2():
    reading, writing = os.pipe()
    os.close(reading)
    run = start("nosuch", stdout=subprocess.DEVNULL, stderr=writing)
    os.close(writing)
    assert run.wait() == 2
