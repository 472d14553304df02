"""The `data` command and `--task all`: present and missing data, and data carried to another machine."""

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from listops_text import SHORT, write_released
from test_pathfinder_files import write as write_pathfinder

import tasks
from lra.cli import main
from lra.experiments.data import describe_data

ROOT = Path(__file__).parent.parent


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty cache, no data folder, no network."""
    monkeypatch.setenv("LRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LRA_DATA", raising=False)
    monkeypatch.setattr("tasks._hub.reachable", lambda _: False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def test_all_runs_what_there_is(elsewhere, tiny, capsys):
    out = elsewhere / "runs"
    assert main(["--attn", "elu", "--task", "all", "--protocol", tiny, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "2 of 5 tasks have data; missing: text, retrieval, image" in printed.err
    assert sorted(path.name.split("-")[0] for path in out.glob("*.json")) == ["listops", "pathfinder"]
    assert "Pathfinder" in printed.out
    assert "missing: text, retrieval, image; 2 of 5 tasks\n" in printed.out
    assert main(["--attn", "elu", "--task", "text", "--protocol", tiny, "--out", str(out)]) == 2
    assert "data prepare --task text --data-dir DIR" in capsys.readouterr().err


def test_prepare_status_and_carry(elsewhere, tiny, monkeypatch, capsys):
    assert main(["data", "status", "--task", "listops"]) == 0
    assert "not prepared; python run_lra.py data prepare --task listops" in capsys.readouterr().out
    archive = elsewhere / "data.tar"
    assert main(["data", "pack", "--task", "listops", "--protocol", tiny, "--file", str(archive)]) == 0
    monkeypatch.setenv("LRA_CACHE", str(elsewhere / "other"))
    (elsewhere / "other").mkdir()
    assert main(["data", "unpack", "--file", str(archive)]) == 0
    capsys.readouterr()
    assert main(["data", "status"]) == 0
    printed = capsys.readouterr().out
    assert "listops: generated (generator v1), 300 / 70 / 90 samples" in printed
    assert "text: not prepared" in printed
    folders = [sorted(path.name for path in (elsewhere / name).glob("listops-*")) for name in ("cache", "other")]
    assert folders[0] == folders[1] != []


def test_nothing_is_packed_where_no_task_has_data(elsewhere, tiny, monkeypatch, capsys):
    def missing(task, *_):
        raise tasks.MissingDataError(f"{task}: no data")

    monkeypatch.setattr("lra.experiments.data.prepare_data", missing)
    archive = elsewhere / "data.tar"
    assert main(["data", "pack", "--task", "all", "--protocol", tiny, "--file", str(archive)]) == 1
    assert "0 of 5 tasks have data" in capsys.readouterr().err
    assert not archive.exists()


@pytest.mark.parametrize("name", ["../evil.npy", "/evil.npy", "listops-0123456789ab/run.py", "notes.txt"])
def test_unpack_refuses_other_archives(elsewhere, name, capsys):
    archive = elsewhere / "evil.tar"
    with tarfile.open(archive, "w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    (elsewhere / "cache").mkdir()
    assert main(["data", "unpack", "--file", str(archive)]) == 2
    assert "is not packed data" in capsys.readouterr().err
    assert list((elsewhere / "cache").iterdir()) == []


def test_unpack_refuses_damage(elsewhere, capsys):
    archive = elsewhere / "cut.tar"
    archive.write_bytes(b"no tar at all" * 100)
    (elsewhere / "cache").mkdir()
    assert main(["data", "unpack", "--file", str(archive)]) == 2
    assert "is not packed data" in capsys.readouterr().err
    assert main(["data", "pack", "--file", str(archive)]) == 2
    assert "data pack needs --task" in capsys.readouterr().err


def test_streamed_tasks_need_no_preparation(elsewhere, capsys):
    assert main(["data", "status", "--task", "pathx"]) == 0
    assert "pathx: generated while it is read" in capsys.readouterr().out
    assert main(["data", "pack", "--task", "pathx", "--protocol", "quick", "--file", str(elsewhere / "x.tar")]) == 2
    assert "pathx is generated as it is read, so there is nothing to pack" in capsys.readouterr().err


def test_the_command_prints_and_stores_a_ladder(elsewhere, tiny, capsys):
    asked = ["data", "ladder", "--task", "listops", "--protocol", tiny, "--store", str(elsewhere / "ladders")]
    assert main(asked) == 0
    assert "root operator" in capsys.readouterr().out
    assert len(list((elsewhere / "ladders").glob("listops-*.json"))) == 1


def official(name, folder, settings):
    """Prepares a task from files in their released format."""
    task = tasks.find(name)
    if name == "listops":
        write_released(folder, task.prepare(SHORT, None, folder / "cache", False))
    else:
        write_pathfinder(folder / "pathfinder32/curv_contour_length_14")
    return task.prepare(settings, folder, folder / "cache", False)


@pytest.mark.parametrize("name", ["listops", "pathfinder"])
def test_official_data_unpacked_here_go_before_the_generator(elsewhere, name, monkeypatch):
    """Unpacked data is used before generated data; data prepared from a folder is not used without that folder."""
    monkeypatch.setattr("tasks.listops.task.ROWS", {"train": 300, "validation": 40, "test": 50})
    monkeypatch.setattr("tasks.pathfinder.task.RELEASED", 23)
    task: Any = tasks.find(name)
    rows = {"train_rows": 3, "validation_rows": 2, "test_rows": 2}
    settings = replace(SHORT, **rows) if name == "listops" else task.settings(**rows)
    data = official(name, elsewhere / "files", settings)
    assert task.prepare(settings, None, elsewhere / "files/cache", False).about["label"] == "generated"
    tasks.pack([data], elsewhere / "data.tar")
    here = elsewhere / "cache"
    here.mkdir()
    generated = task.prepare(settings, None, here, False)
    assert f"{name}: generated (generator v1), 3 / 2 / 2 samples" in describe_data(name, generated, None)
    tasks.unpack(elsewhere / "data.tar", here)
    found = task.prepare(settings, None, here, False)
    assert (found.hash, found.about["label"]) == (data.hash, "official")
    assert f"unpacked from an archive: if {found.folder} is deleted" in describe_data(name, found, None)
    assert "this machine also has data prepared from files" in describe_data(name, generated, None)
    (elsewhere / "empty").mkdir()
    assert task.prepare(settings, elsewhere / "empty", here, False).hash == generated.hash
    other = replace(settings, **({"brackets": False} if name == "listops" else {"difficulty": "easy"}))
    assert task.prepare(other, None, here, False).about["label"] == "generated"
    shutil.rmtree(found.folder)
    assert task.prepare(settings, None, here, False).hash == generated.hash


def test_a_preparation_killed_at_half_leaves_nothing_wrong(tmp_path):
    """A SIGKILL while arrays are written leaves no prepared data; the next call builds it and removes leftovers."""
    cache = tmp_path / "cache"
    more = ["data.train_rows=60000", "data.validation_rows=500", "data.test_rows=500"]
    command = [sys.executable, str(ROOT / "run_lra.py"), "data", "prepare", "--task", "listops", "--set", *more]
    environment = os.environ | {"LRA_CACHE": str(cache)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(cache.rglob("*.tmp")):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it was done before it could be killed"
    assert list(cache.rglob("*.tmp"))
    assert not [path for path in cache.rglob("*.json") if ".tmp" not in str(path)]
    done = subprocess.run(
        command, env=os.environ | {"LRA_CACHE": str(cache)}, capture_output=True, text=True, check=True
    )
    assert "60,000 / 500 / 500 samples" in done.stdout
    assert not list(cache.rglob("*.tmp"))
