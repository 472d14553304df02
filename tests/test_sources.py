"""Where data comes from, with Text as the example: folders, the hub, no network, broken files."""

import shutil
import socket
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from parquet import LABELS, TEXTS, write, write_reviews

import tasks
from tasks import DataError, _sources

TASK = tasks.find("text")
HOME = sys.modules["tasks.text.task"].HOME
SMALL = replace(TASK.settings(), length=10, validation_rows=2)


@pytest.fixture(autouse=True)
def no_data(monkeypatch):
    monkeypatch.delenv("LRA_DATA", raising=False)


@pytest.fixture
def small(tmp_path):
    write_reviews(tmp_path / "data", TEXTS, LABELS)
    return TASK.prepare(SMALL, tmp_path / "data", tmp_path / "cache", False)


@pytest.mark.parametrize("inner", ["", "imdb", "imdb/plain_text"])
@pytest.mark.parametrize("by", ["data_dir", "LRA_DATA"])
def test_folders(small, tmp_path, monkeypatch, inner, by):
    folder = tmp_path / "data" / inner
    monkeypatch.setattr(_sources, "download", lambda *_: pytest.fail("went to the hub"))
    if by == "LRA_DATA":
        monkeypatch.setenv("LRA_DATA", str(folder))
    data = TASK.prepare(SMALL, folder if by == "data_dir" else None, tmp_path / "fresh", False)
    assert data.hash == small.hash


def test_hub_snapshot_and_missing_folder(small, tmp_path):
    place = tmp_path / "hub" / "datasets--stanfordnlp--imdb" / "snapshots" / HOME.revision
    shutil.copytree(tmp_path / "data" / "imdb", place)
    for folder in (place, tmp_path / "hub"):
        assert TASK.prepare(SMALL, folder, tmp_path / "fresh", False).hash == small.hash
    with pytest.raises(DataError, match="nowhere is no folder"):
        TASK.prepare(SMALL, tmp_path / "nowhere", tmp_path / "fresh", False)


def test_prepared_once_found_without_the_folder(small, tmp_path, monkeypatch):
    monkeypatch.setattr(_sources, "download", lambda *_: pytest.fail("went to the hub"))
    assert TASK.prepare(SMALL, None, tmp_path / "cache", False).hash == small.hash
    with pytest.raises(pytest.fail.Exception, match="went to the hub"):
        TASK.prepare(replace(SMALL, length=9), None, tmp_path / "cache", False)


def test_hub(small, tmp_path, monkeypatch):
    """What the hub's library is asked, and that its files give the data of the folder."""
    import huggingface_hub

    asked = []

    def give(filename, **place):
        asked.append((filename, place))
        return str(tmp_path / "data" / "imdb" / filename)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(_sources, "reachable", lambda _: True)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda **_: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", give)
    data = TASK.prepare(SMALL, None, tmp_path / "fresh", False)
    assert (data.hash, data.about["source"]) == (small.hash, "stanfordnlp/imdb")
    assert data.about["revision"] == HOME.revision == asked[0][1]["revision"]
    assert asked[0][0] == "plain_text/train-00000-of-00001.parquet"

    def fail(**_):
        raise OSError("404\nand more")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(DataError, match=r"the download of stanfordnlp/imdb failed: 404; python run_lra\.py") as caught:
        TASK.prepare(SMALL, None, tmp_path / "other", False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("offline", "reason"), [(True, "HF_HUB_OFFLINE forbids"), (False, "is out of reach")])
def test_no_network(tmp_path, monkeypatch, offline, reason):
    import huggingface_hub

    def hang(*_, **__):
        threading.Event().wait(10)
        raise OSError

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda **_: None)
    monkeypatch.setattr(socket, "create_connection", hang)
    monkeypatch.setattr(_sources, "PATIENCE", 0.2)
    start = time.perf_counter()
    with pytest.raises(DataError, match=reason) as caught:
        TASK.prepare(SMALL, None, tmp_path, False)
    assert time.perf_counter() - start < 2
    assert "data prepare --task text --data-dir DIR" in str(caught.value)
    assert "imdb/plain_text/train-*.parquet" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("text-*"))


def test_reachable(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert _sources.reachable(f"http://127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        assert _sources.reachable("https://hub.invalid")
    monkeypatch.delenv("https_proxy")
    assert not _sources.reachable(f"http://127.0.0.1:{port}")


def broken(place, kind):
    path = place / "test-00000-of-00001.parquet"
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif kind == "empty file":
        path.write_bytes(b"")
    elif kind == "no pair":
        path.unlink()
    elif kind == "column":
        write(path, review=TEXTS, label=LABELS)
    elif kind == "label":
        write(path, text=TEXTS, label=[*LABELS[:-1], -1])
    elif kind == "no label":
        write(path, text=TEXTS, label=[*LABELS[:-1], None])
    elif kind == "no text":
        write(path, text=[*TEXTS[:-1], None], label=LABELS)
    elif kind == "numbers":
        write(path, text=LABELS, label=LABELS)
    else:
        write(path, text=TEXTS[:0], label=LABELS[:0])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut", "test-00000-of-00001.parquet cannot be read, it may be cut short"),
        ("empty file", "cannot be read"),
        ("no pair", r"imdb/plain_text lacks test-\*\.parquet"),
        ("column", "has no column 'text'; it has review, label"),
        ("label", "row 7: the label is -1, not one of 0 to 1"),
        ("no label", "row 7: the label is None"),
        ("no text", "must hold a text in every row"),
        ("numbers", "must hold a text in every row, it is int64"),
        ("no rows", "holds no rows"),
    ],
)
def test_broken_files(tmp_path, kind, message):
    broken(write_reviews(tmp_path / "data", TEXTS, LABELS), kind)
    with pytest.raises(DataError, match=message) as caught:
        TASK.prepare(SMALL, tmp_path / "data", tmp_path / "cache", False)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("text-*"))


def test_data_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("LRA_DATA", raising=False)
    assert _sources.data_folder(None) is None
    monkeypatch.setenv("LRA_DATA", str(tmp_path))
    assert _sources.data_folder(None) == tmp_path
    monkeypatch.setenv("LRA_DATA", str(tmp_path / "gone"))
    assert _sources.data_folder(tmp_path) == tmp_path
    with pytest.raises(DataError, match=r"LRA_DATA .*gone is no folder"):
        _sources.data_folder(None)
    with pytest.raises(DataError, match="--data-dir nowhere is no folder"):
        _sources.data_folder(Path("nowhere"))
