"""Where data comes from, with Text as the example: folders, the hub, no network, broken files."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from aan_files import write_compact
from parquet import LABELS, TEXTS, png, write, write_images, write_reviews
from test_pathfinder_files import write as write_pathfinder

import tasks
from tasks import DataError, _hub, _sources

ROOT = Path(__file__).parent.parent
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
def test_a_folder_is_found_by_argument_and_by_variable(small, tmp_path, monkeypatch, inner, by):
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
    """Only the whole release is found without its folder; here the release is a few reviews."""
    monkeypatch.setattr(_sources, "download", lambda *_: pytest.fail("went to the hub"))
    monkeypatch.setattr("tasks.text.task.HOME", replace(HOME, rows={"train": len(TEXTS), "test": len(TEXTS)}))
    TASK.prepare(SMALL, tmp_path / "data", tmp_path / "whole", False)
    assert TASK.prepare(SMALL, None, tmp_path / "whole", False).hash == small.hash
    with pytest.raises(pytest.fail.Exception, match="went to the hub"):
        TASK.prepare(replace(SMALL, length=9), None, tmp_path / "whole", False)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the hub, with no variable that forbids or redirects downloads."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "hub"


class Hub(BaseHTTPRequestHandler):
    """The part of the hub that a download of a revision needs, for the files below `root`; others are 404."""

    root = Path()

    def do_HEAD(self):
        self.answer(head=True)

    def do_GET(self):
        self.answer(head=False)

    def answer(self, head):
        path = self.root / self.path.partition(f"/resolve/{HOME.revision}/")[2]
        content = path.read_bytes() if path.is_file() else b""
        if self.path == f"/api/datasets/{HOME.repository}/revision/{HOME.revision}":
            content = json.dumps({"id": HOME.repository, "sha": HOME.revision, "siblings": []}).encode()
        self.send_response(200 if content else 404)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", HOME.revision)
        self.end_headers()
        if not head:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


def test_files_from_the_hub_give_the_data_of_a_folder(small, tmp_path, monkeypatch):
    """Files from a local hub give the same data as the folder and stay in the cache; an error is one line."""
    monkeypatch.setattr(Hub, "root", tmp_path / "data" / "imdb")
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = ask_hub(tmp_path, f"http://127.0.0.1:{server.server_port}")
        assert done.stdout == f"{small.hash} stanfordnlp/imdb {HOME.revision}\n", done
        (tmp_path / "data/imdb/plain_text/test-00000-of-00001.parquet").unlink()
        failed = ask_hub(tmp_path / "other", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert "text: the download of stanfordnlp/imdb failed: " in failed.stdout
    assert "python run_lra.py data prepare --task text --data-dir DIR" in failed.stdout
    assert failed.stdout.count("\n") == 1
    kept = tmp_path / "hub/datasets--stanfordnlp--imdb/snapshots" / HOME.revision / "plain_text"
    assert sorted(path.name.partition("-")[0] for path in kept.iterdir()) == ["test", "train"]


def ask_hub(folder, endpoint):
    """Prepares Text from a hub in a new process, because the hub's client reads its variables only once."""
    code = (
        "import sys, pathlib, tasks\ntask = tasks.find('text')\n"
        "settings = task.settings(length=10, validation_rows=2)\n"
        "try: data = task.prepare(settings, None, pathlib.Path(sys.argv[1]), False)\n"
        "except tasks.MissingDataError as error: print(error); sys.exit()\n"
        "print(data.hash, data.about['source'], data.about['revision'])\n"
    )
    changes = {"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(folder / "hub"), "HF_HOME": str(folder / "home")}
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")} | changes
    command = [sys.executable, "-c", code, str(folder / "fresh")]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_the_hub_s_own_cache_needs_no_network(small, hub, tmp_path, monkeypatch):
    monkeypatch.setattr(_hub, "reachable", lambda _: pytest.fail("asked for the network"))
    place = hub / "datasets--stanfordnlp--imdb" / "snapshots" / HOME.revision
    shutil.copytree(tmp_path / "data" / "imdb", place)
    for offline in ("0", "1"):
        monkeypatch.setenv("HF_HUB_OFFLINE", offline)
        assert TASK.prepare(SMALL, None, tmp_path / f"fresh{offline}", False).hash == small.hash


@pytest.mark.parametrize(
    ("offline", "reason"),
    [
        ("HF_HUB_OFFLINE", "HF_HUB_OFFLINE forbids"),
        ("HF_DATASETS_OFFLINE", "HF_DATASETS_OFFLINE forbids"),
        ("", "is out of reach"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_no_network(tmp_path, monkeypatch, offline, reason):
    done, hung = threading.Event(), []

    def hang(*_, **__):
        hung.append(not done.wait(300))
        raise OSError

    if offline:
        monkeypatch.setenv(offline, "1")
    monkeypatch.setattr(socket, "create_connection", hang)
    monkeypatch.setattr(_hub, "PATIENCE", 0.2)
    try:
        with pytest.raises(DataError, match=reason) as caught:
            TASK.prepare(SMALL, None, tmp_path, False)
        assert not hung, "it waited until the connection was given up"
    finally:
        done.set()
    assert "data prepare --task text --data-dir DIR" in str(caught.value)
    assert "imdb/plain_text/train-*.parquet" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("text-*"))


def test_without_a_network_nothing_heavy_is_imported(tmp_path):
    """The error comes within PATIENCE, because it needs no import of `datasets`."""
    code = (
        "import sys, pathlib, tasks\nfrom tasks import _hub\n_hub.reachable = lambda _: False\n"
        "task = tasks.find('text')\n"
        "try: task.prepare(task.settings(), None, pathlib.Path(sys.argv[1]), False)\n"
        "except tasks.MissingDataError: print(*{'datasets', 'torch', 'pandas'} & set(sys.modules))"
    )
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_reachable(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert _hub.reachable(f"http://127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        assert _hub.reachable("https://hub.invalid")
    monkeypatch.delenv("https_proxy")
    assert not _hub.reachable(f"http://127.0.0.1:{port}")


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


@pytest.mark.parametrize("name", ["a [b] * ?", os.fsdecode(b"caf\xe9 \xff")], ids=["signs of a pattern", "no UTF-8"])
@pytest.mark.parametrize("task_name", ["listops", "text", "image", "retrieval", "pathfinder"])
def test_folders_of_any_name(tmp_path, task_name, name):
    """Whole files give data, and a truncated file gives one printable line."""
    folder, task = tmp_path / name, tasks.find(task_name)
    settings = WRITERS[task_name](folder)
    data = task.prepare(settings, folder, folder / "cache", False)
    assert data.about["label"] == "user's files"
    json.dumps(data.about, ensure_ascii=False).encode()
    assert tasks.store_ladder(folder / "cache", data, {"constant": 0.5}).is_file()
    largest = max((path for path in folder.rglob("*") if path.is_file() and "cache" not in path.parts), key=size_of)
    content = largest.read_bytes()
    largest.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError) as caught:
        task.prepare(settings, folder, folder / "fresh cache", False)
    str(caught.value).encode()
    assert "\n" not in str(caught.value)


def size_of(path):
    return path.stat().st_size


def write_text_files(folder):
    write_reviews(folder)
    return SMALL


def write_image_files(folder):
    write_images(folder, [png(np.zeros((32, 32, 3), np.uint8))] * 20, [row % 10 for row in range(20)])
    return tasks.find("image").settings()


def write_listops_files(folder):
    folder.mkdir()
    for part in ("train", "val", "test"):
        (folder / f"basic_{part}.tsv").write_text("Source\tTarget\n( ( ( [MAX 3 ) 4 ) ] )\t4\n")
    return tasks.find("listops").settings()


def write_retrieval_files(folder):
    write_compact(folder)
    return tasks.find("retrieval").settings(length=8)


def write_pathfinder_files(folder):
    write_pathfinder(folder / "pathfinder32/curv_contour_length_14")
    return tasks.find("pathfinder").settings()


WRITERS = {
    "listops": write_listops_files,
    "text": write_text_files,
    "image": write_image_files,
    "retrieval": write_retrieval_files,
    "pathfinder": write_pathfinder_files,
}
