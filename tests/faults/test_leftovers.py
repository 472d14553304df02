"""Files that killed processes left are removed; files that may be in use are not."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import tasks
from lra.cli import main
from lra.results.files import writable, write_all

OLD = (1e9, 1e9)


def test_files_of_killed_processes_are_removed(tmp_path: Path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    work = tmp_path / "work" / "a-run"
    work.mkdir(parents=True)
    dead = [tmp_path / f".probe-{gone.pid}", tmp_path / f".a.json.{gone.pid}.tmp", work / f".resume.pt.{gone.pid}.tmp"]
    dead += [work / f".lock.claim.{uuid.uuid4().hex}.tmp"]
    kept = [tmp_path / f".probe-{os.getppid()}", work / f".best.{os.getpid()}.tmp", work / "resume.pt", tmp_path / ".x"]
    fresh = tmp_path / f".b.json.{gone.pid}.tmp"
    for path in (*dead, *kept, fresh):
        path.touch()
        os.utime(path, OLD)
    os.utime(fresh)
    writable(tmp_path)
    assert not [path for path in dead if path.exists()]
    assert all(path.exists() for path in (*kept, fresh))


def test_dead_builds_of_the_cache_are_removed(tmp_path: Path):
    dead, alive = tmp_path / ".text-0123456789ab.77.tmp", tmp_path / ".image-0123456789ab.78.tmp"
    for folder in (dead, alive):
        folder.mkdir()
        (folder / "train-values.npy").touch()
        os.utime(folder / "train-values.npy", OLD)
        os.utime(folder, OLD)
    os.utime(alive / "train-values.npy")
    task = tasks.find("listops")
    rows = {"train_rows": 20, "validation_rows": 20, "test_rows": 20, "min_length": 20, "max_length": 60}
    task.prepare(task.settings(**rows), None, tmp_path, False)
    assert not dead.exists()
    assert alive.exists()


def test_what_a_process_left_that_was_killed_after_its_record_is_removed(tiny: str, tmp_path: Path):
    """The same command removes them; `write_all`, which writes reports, removes its own."""
    words = ["--attn", "mean", "--task", "listops", "--protocol", tiny, "--device", "cpu", "--out", str(tmp_path)]
    assert main([*words, "--set", "train.gear=eager", "train.steps=20"]) == 0
    (work,) = tmp_path.glob("work/*")
    left = [work / name for name in ("resume.pt", "resume-before.pt", "doubtful.pt", "error.txt", "run.json")]
    for path in left:
        path.touch()
    assert main([*words, "--set", "train.gear=eager", "train.steps=20"]) == 0
    assert not [path for path in left if path.exists()]
    old = tmp_path / ".report.md.999999999.tmp"
    old.touch()
    os.utime(old, OLD)
    write_all({"report.md": b""}, tmp_path, ("report.md", ""))
    assert not old.exists()
