"""What killed processes leave behind is removed, and nothing that may be in use."""

import os
import subprocess
import sys
from pathlib import Path

import tasks
from lra.results.files import writable

OLD = (1e9, 1e9)


def test_files_of_killed_processes_are_removed(tmp_path: Path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    work = tmp_path / "work" / "a-run"
    work.mkdir(parents=True)
    dead = [tmp_path / f".probe-{gone.pid}", tmp_path / f".a.json.{gone.pid}.tmp", work / f".resume.pt.{gone.pid}.tmp"]
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
