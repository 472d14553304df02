"""Data on disk: the released ListOps files, whole and broken, and the cache, interrupted and damaged."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from listops_text import SHORT, write_released

import tasks
from tasks import DataError

TASK = tasks.find("listops")
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def short(cache):
    return TASK.prepare(SHORT, None, cache, False)


def test_arrays_are_on_the_disk_before_their_folder_has_its_name(tmp_path, monkeypatch):
    """Otherwise a machine that stops could leave a folder of empty arrays."""
    seen = {}

    def fsync(number):
        file = os.fstat(number)
        assert not [*tmp_path.glob("listops-*")]
        seen[file.st_ino] = file.st_size

    monkeypatch.setattr(os, "fsync", fsync)
    folder = TASK.prepare(SHORT, None, tmp_path, False).folder
    sizes = {array.stat().st_ino: array.stat().st_size for array in folder.glob("*.npy")}
    assert len(sizes) >= 9
    assert sizes.items() <= seen.items()


def test_released_files(short, tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.listops.task.ROWS", short.about["rows"])
    write_released(tmp_path / "lra_release" / "listops-1000", short)
    data = TASK.prepare(SHORT, tmp_path, tmp_path / "cache", False)
    for split in ("train", "validation", "test"):
        for field in ("values", "lengths", "labels"):
            assert (getattr(getattr(data, split), field) == getattr(getattr(short, split), field)).all()
    assert data.hash == short.hash
    assert (data.about["label"], data.about["seed"]) == ("official", None)
    file = tmp_path / "lra_release/listops-1000/basic_val.tsv"
    assert data.about["sha256"]["basic_val.tsv"] == hashlib.sha256(file.read_bytes()).hexdigest()
    bare = TASK.prepare(replace(SHORT, brackets=False), tmp_path, tmp_path / "cache", False)
    assert not (bare.train.values == 14).any()


def test_files_longer_than_the_settings_and_of_other_numbers_of_rows(short, tmp_path):
    write_released(tmp_path, short)
    data = TASK.prepare(replace(SHORT, max_length=20), tmp_path, tmp_path / "cache", False)
    assert data.about["label"] == "user's files"
    assert data.spec.length == max(split.lengths.max() for split in (short.train, short.validation, short.test))


GOOD = "( ( ( [MAX 3 ) 4 ) ] )"


def test_byte_order_marks_and_windows_lines(short, tmp_path):
    write_released(tmp_path, short)
    for path in tmp_path.glob("*.tsv"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert TASK.prepare(SHORT, tmp_path, tmp_path / "cache", False).hash == short.hash


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("Source,Target\n", r"line 1: the header must be 'Source<TAB>Target', not 'Source,Target'"),
        ("Target\tSource\n", "line 1: the header"),
        ("Source\tTarget\n", "holds no samples"),
        (f"Source\tTarget\n{GOOD}\t4\n{GOOD}\t5\n", "line 3 has the target 5, but the expression is 4"),
        (f"Source\tTarget\n{GOOD}\n", "line 2 is cut short"),
        (f"Source\tTarget\n{GOOD}\t\n", "line 2 is cut short"),
        (f"Source\tTarget\n{GOOD}\t4\n{GOOD[:12]}", "line 3 is cut short"),
        (f"Source\tTarget\n{GOOD}\t4\n( ( ( [MA", "line 3 is cut short"),
        (f"Source\tTarget\n\n{GOOD}\t4\n", "line 2 is cut short"),
        ("Source\tTarget\n( ( ( [AVG 3 ) 4 ) ] )\t3\n", "line 2 holds a token"),
        ("Source\tTarget\n( ( ( [MAX 13 ) 4 ) ] )\t4\n", "line 2 holds a token"),
        ("Source\tTarget\n( ( ( [MAX 3 ) 4 ) X )\t4\n", "line 2 holds a token"),
        ("Source\tTarget\n( ( ( [MAX 3 ) 4 ) ]\t4\n", "line 2 is no complete expression"),
        ("Source\tTarget\n( ( [MAX 3 ) 4 )\t4\n", "line 2 is no complete expression"),
        (f"Source\tTarget\n{GOOD}\t4\t4\n", "line 2 has a target that is not one digit"),
        (f"Source\tTarget\n{GOOD}\t44\n", "line 2 has a target that is not one digit"),
        (f"Source\tTarget\n{GOOD}\tx\n", "line 2 has a target that is not one digit"),
    ],
)
def test_broken_released_file(tmp_path, content, message):
    for name in ("train", "val", "test"):
        (tmp_path / f"basic_{name}.tsv").write_text(f"Source\tTarget\n{GOOD}\t4", newline="")
    assert TASK.prepare(SHORT, tmp_path, tmp_path / "cache", False).about["rows"]["train"] == 1
    path = tmp_path / "basic_val.tsv"
    path.write_text(content, newline="")
    with pytest.raises(DataError, match=re.escape(str(path)) + r".*" + message) as caught:
        TASK.prepare(SHORT, tmp_path, tmp_path / "cache", False)
    assert "\n" not in str(caught.value)
    assert "lra_release.gz" in str(caught.value)
    assert len(list((tmp_path / "cache").glob("*/manifest.json"))) == 1


def test_missing_released_files(short, cache, tmp_path):
    assert TASK.prepare(SHORT, tmp_path, cache, False).about["label"] == "generated"
    with pytest.raises(DataError, match="nowhere is no folder"):
        TASK.prepare(SHORT, tmp_path / "nowhere", cache, False)
    write_released(tmp_path / "listops-1000", short)
    (tmp_path / "listops-1000" / "basic_test.tsv").unlink()
    with pytest.raises(DataError, match=r"listops-1000 lacks basic_test\.tsv"):
        TASK.prepare(SHORT, tmp_path, cache, False)


def test_interrupted_preparation_leaves_nothing(short, tmp_path, monkeypatch):
    from tasks.listops import generator as _listops_generator

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_listops_generator, "_fill", stop)
        with pytest.raises(KeyboardInterrupt):
            TASK.prepare(SHORT, None, tmp_path, False)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    killed = tmp_path / f".{short.folder.name}.77.tmp"
    killed.mkdir()
    assert TASK.prepare(SHORT, None, tmp_path, False).hash == short.hash
    assert not killed.exists()


@pytest.mark.parametrize("damage", ["truncate", "remove", "manifest"])
def test_damaged_cache_is_rebuilt(short, tmp_path, damage):
    shutil.copytree(short.folder, folder := tmp_path / short.folder.name)
    array, manifest = folder / "train-values.npy", folder / "manifest.json"
    if damage == "truncate":
        array.write_bytes(array.read_bytes()[:-1])
    elif damage == "remove":
        array.unlink()
    else:
        manifest.write_text(manifest.read_text()[:50])
    data = TASK.prepare(SHORT, None, tmp_path, False)
    assert (data.train.values == short.train.values).all()
    assert json.loads(manifest.read_text())["hash"] == short.hash


def test_two_processes_prepare_at_once(short, tmp_path):
    code = (
        "import sys, pathlib, tasks; task = tasks.find('listops'); "
        f"settings = task.settings(**{asdict(SHORT)!r}); "
        "print(task.prepare(settings, None, pathlib.Path(sys.argv[1]), False).hash)"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in processes] == [short.hash] * 2


def test_cache_that_cannot_be_written(short, tmp_path):  # noqa: ARG001
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write the data cache"):
        TASK.prepare(SHORT, None, tmp_path / "file" / "cache", False)


def test_pack_and_unpack_where_names_are_not_utf_8(short, tmp_path):
    """Data from a user's files is found after `unpack`; a strange archive is refused in one printable line."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    write_released(folder / "files", short)
    data = TASK.prepare(SHORT, folder / "files", folder / "cache", False)
    archive = folder / os.fsdecode(b"\xff.tar")
    tasks.pack([data], archive)
    assert tasks.unpack(archive, folder / "other") == [data.folder.name]
    unpacked = TASK.prepare(SHORT, None, folder / "other", False)
    assert (unpacked.hash, unpacked.about["label"]) == (data.hash, "user's files")
    with tarfile.open(archive, "w") as tar:
        tar.addfile(tarfile.TarInfo(os.fsdecode(b"evil\xff")))
    with pytest.raises(DataError, match="is not packed data: it holds evil") as caught:
        tasks.unpack(archive, folder / "other")
    str(caught.value).encode()
    with pytest.raises(DataError) as caught:
        tasks.unpack(folder / "none.tar", folder / "other")
    str(caught.value).encode()
    with pytest.raises(DataError, match="cannot write") as caught:
        tasks.pack([data], folder / "none" / "data.tar")
    str(caught.value).encode()
