"""Retrieval: files that are broken or missing, the mirror, a preparation that is killed, a damaged cache."""

import subprocess
import sys
from pathlib import Path

import pytest
from aan_files import HEADER, LIST, OFFICIAL, SETTINGS, check_rows, prepare, released, write_compact, write_released
from parquet import write

from tasks import DataError
from tasks.retrieval import task as retrieval

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch):
    monkeypatch.delenv("LRA_DATA", raising=False)
    monkeypatch.delenv("LRA_ACCEPT_MIRROR", raising=False)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(retrieval, "ROWS", {"train": 3, "validation": 2, "test": 2})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace(b"0.0", b"2.0"), r"line 2: the label must be 0 or 1 .* not '2\.0'"),
        (lambda text: text.replace(b"1.0\t", b""), "line 1 has 4 columns instead of 5, the file may be cut short"),
        (lambda text: text[:-30], "line 3 has . columns instead of 5|has . lines"),
        (lambda text: text[: text.index(b"\n") + 1], "has 1 lines, the released file has 3: it is cut short"),
        (lambda text: text[:0], "has 0 lines"),
        (lambda text: text.replace(b"gamma", b"gam\tma"), "line 1 has 6 columns instead of 5$"),
    ],
)
@pytest.mark.usefixtures("few")
def test_broken_released_file(tmp_path, change, message):
    files = released()
    files["new_aan_pairs.train.tsv"] = change(files["new_aan_pairs.train.tsv"])
    fails(write_released(tmp_path, files), OFFICIAL, message)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (HEADER.replace("label\t", "") + LIST, "line 1 has 3 columns instead of 4"),
        (LIST, "line 1: the header must be split<TAB>label<TAB>id1<TAB>id2"),
        ("", "line 1: the header"),
        (HEADER + LIST.replace("\t0\tB", "\tno\tB"), "line 3: the label must be 0 or 1"),
        (HEADER + LIST.replace("\tE\t", "\tZ\t"), r"line 7: docs\.parquet has no document 'Z'"),
        (HEADER + LIST.replace("eval", "dev"), "line 5: the split 'dev' is none of train, eval, test"),
        (HEADER + LIST[:40], r"pairs\.tsv line 5 has 1 columns instead of 4, the file may be cut short"),
        (HEADER + LIST[: LIST.index("test")], "has no rows of test: it is cut short"),
    ],
)
def test_broken_list(tmp_path, listed, message):
    fails(write_compact(tmp_path, listed), SETTINGS, message)


def test_broken_documents(tmp_path):
    folder = write_compact(tmp_path)
    path = folder / "aan" / "docs.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    fails(folder, SETTINGS, r"docs\.parquet cannot be read, it may be cut short")
    write(path, id=["A"], body=["x"])
    fails(folder, SETTINGS, r"docs\.parquet has no column 'text'; it has id, body")
    write(path, id=["A", "A"], text=["x", "y"])
    fails(folder, SETTINGS, "the id 'A' occurs twice")
    path.write_bytes(content)
    check_rows(prepare(folder))


def fails(folder, settings, message):
    with pytest.raises(DataError, match=message) as caught:
        prepare(folder, settings)
    assert "\n" not in str(caught.value)
    assert [path for path in (folder / "cache").iterdir() if path.is_dir()] == []


def test_a_killed_preparation_starts_again(tmp_path):
    folder = write_compact(tmp_path)
    code = (
        "import os, sys, pathlib, tasks; from tasks import _store; task = tasks.find('retrieval'); "
        "_store.write_pairs = lambda *_: os.kill(os.getpid(), 9); folder = pathlib.Path(sys.argv[1]); "
        "task.prepare(task.settings(length=8), folder, folder / 'cache', False)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=False)
    assert killed.returncode == -9
    assert len(list((folder / "cache").glob(".retrieval-*.tmp"))) == 1
    check_rows(data := prepare(folder))
    assert [path.name for path in (folder / "cache").iterdir() if path.is_dir()] == [data.folder.name]


@pytest.mark.parametrize("name", ["documents-values.npy", "test-pairs.npy"])
def test_damaged_cache_is_rebuilt(tmp_path, name):
    data = prepare(write_compact(tmp_path))
    path = data.folder / name
    path.write_bytes(path.read_bytes()[:-1])
    again = prepare(tmp_path)
    check_rows(again)
    assert again.hash == data.hash


@pytest.mark.parametrize("settings", [SETTINGS, OFFICIAL])
def test_without_data_the_next_command_and_no_network(tmp_path, monkeypatch, settings):
    monkeypatch.setattr("socket.socket", lambda *_: pytest.fail("touched the network"))
    with pytest.raises(DataError, match=r"python run_lra\.py data prepare --task retrieval.*--accept-mirror") as caught:
        prepare(tmp_path, settings)
    assert "\n" not in str(caught.value)
    assert retrieval.TERMS in str(caught.value)


@pytest.mark.usefixtures("few")
def test_mirror(tmp_path, monkeypatch):
    monkeypatch.setenv("LRA_ACCEPT_MIRROR", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match=r"HF_HUB_OFFLINE forbids the download: .* --data-dir DIR"):
        prepare(tmp_path, OFFICIAL)
    write_released(tmp_path / "hub/datasets--OpenNLPLab--lra/snapshots" / retrieval.REVISION / "data/aan", released())
    data = prepare(tmp_path, OFFICIAL)
    check_rows(data)
    assert data.about["label"] == "official mirror"
    assert retrieval.REVISION in data.about["source"]
