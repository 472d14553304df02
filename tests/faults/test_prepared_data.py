"""Prepared data, manifests, ladders and archives: a flipped bit is noticed, and no name leads outside the cache."""

import contextlib
import gzip
import io
import json
import os
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from soak.flips import flip

import tasks
from tasks import DataError, _intact, _ladders, _release, _store

SETTINGS = tasks.find("listops").settings(train_rows=30, validation_rows=20, test_rows=20, min_length=20, max_length=60)


def prepare(cache: Path) -> tasks.Data:
    return tasks.find("listops").prepare(SETTINGS, None, cache, False)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tasks.Data:
    return prepare(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def copied(original: tasks.Data, tmp_path: Path) -> Path:
    """The folder of a copy of the data, in a cache of its own."""
    folder = tmp_path / original.folder.name
    shutil.copytree(original.folder, folder)
    return folder


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any], *, seal: bool = True) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    if seal:
        manifest["digest"] = _intact.digest_of(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("older", [False, True])
def test_no_bit_flips_unnoticed(copied: Path, older: bool):
    """older: the manifest has no hashes, and the hash of the data covers every array but the codes of groups."""
    if older:
        rewrite(copied, lambda manifest: [manifest.pop(key) for key in ("sha256", "digest")], seal=False)
    draw = random.Random(older)
    names = [path.name for path in copied.glob("*.npy") if not older or "-group-" not in path.name]
    for name in sorted(names) * 4 + ["manifest.json"] * (0 if older else 20):
        whole = (copied / name).read_bytes()
        data = _store.load(copied)
        assert data is not None
        assert not tasks.find_fault(data)
        flip(copied / name, draw)
        seen = (changed := _store.load(copied)) is None or tasks.find_fault(changed)
        if not seen and name.endswith(".npy"):
            assert older
            assert np.array_equal(np.load(copied / name), np.load(io.BytesIO(whole)))  # a flip in an array's header
        elif not seen:  # the flip is in white space
            assert json.loads((copied / name).read_bytes()) == json.loads(whole)
        (copied / name).write_bytes(whole)


def test_a_run_verifies_what_is_due(copied: Path, original: tasks.Data, capsys, monkeypatch):
    """Recently verified data is not verified again; when it is due, damaged data is named and prepared again."""
    damaged = copied / "train-values.npy"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 2
    damaged.write_bytes(content)
    assert prepare(copied.parent).folder == copied
    assert not capsys.readouterr().err
    os.utime(copied / "verified", (0, 0))
    data = prepare(copied.parent)
    assert f"prepared data in {copied} is damaged and not used: train-values.npy has changed" in capsys.readouterr().err
    assert (data.train.values == original.train.values).all()
    assert getattr(tasks.find_by_hash(copied.parent, "listops", original.hash), "folder", None) == data.folder
    damaged.write_bytes(content)
    os.utime(copied / "verified", (0, 0))
    assert tasks.find_by_hash(copied.parent, "listops", original.hash) is None, "a run that is loaded does so, too"
    for days in ("often", "nan"):
        monkeypatch.setenv("LRA_VERIFY_DAYS", days)
        with pytest.raises(DataError, match=f"^LRA_VERIFY_DAYS must be a number of days, not '{days}'$"):
            prepare(copied.parent)


STRANGE = {
    "a task": lambda manifest: manifest["about"].update(task="../../../victim/listops"),
    "a hash": lambda manifest: manifest.update(hash="../../../../victim"),
    "a file": lambda manifest: manifest["files"].update({"../train-values.npy": 5}),
    "a group": lambda manifest: manifest["groups"].update({"../root operator": ["a"]}),
    "no task": lambda manifest: manifest["about"].pop("task"),
    "a label": lambda manifest: manifest["spec"].update(classes=3),
    "a length": lambda manifest: manifest["spec"].update(length=1),
}


@pytest.mark.parametrize("change", STRANGE.values(), ids=STRANGE)
def test_a_manifest_that_names_another_place_is_none(copied: Path, change: Callable, tmp_path: Path):
    """It is refused both in a cache and in an archive."""
    rewrite(copied, change)
    assert _store.load(copied) is None
    with tarfile.open(tmp_path / "packed.tar", "w") as tar:
        for path in sorted(copied.iterdir()):
            if path.suffix in (".json", ".npy"):
                tar.add(path, f"{copied.name}/{path.name}")
    cache = tmp_path / "other"
    with pytest.raises(DataError, match="is damaged"):
        tasks.unpack(tmp_path / "packed.tar", cache)
    assert not list(cache.iterdir())


def test_no_bit_of_an_archive_flips_unnoticed(original: tasks.Data, tmp_path: Path):
    draw, archive = random.Random(0), tmp_path / "packed.tar"
    tasks.pack([original], archive)
    whole, cache = archive.read_bytes(), tmp_path / "cache"
    cache.mkdir()
    for _ in range(20):
        flip(archive, draw)
        with contextlib.suppress(DataError):
            tasks.unpack(archive, cache)  # a flip in bytes that no reader uses passes
            (data,) = tasks.prepared(cache, "listops")
            assert (data.train.values == original.train.values).all()
            assert (data.test.labels == original.test.labels).all()
        shutil.rmtree(cache)
        cache.mkdir()
        archive.write_bytes(whole)


def test_an_archive_neither_hangs_nor_explodes(tmp_path: Path):
    pipe = tmp_path / "pipe.tar"
    os.mkfifo(pipe)
    with pytest.raises(DataError, match="is not a regular file"):
        tasks.unpack(pipe, tmp_path)
    with tarfile.open(tmp_path / "sparse.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        hole = tarfile.TarInfo("listops-0123456789ab/train-values.npy")
        hole.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(2**40)}
        tar.addfile(hole)
    with pytest.raises(DataError, match="is not packed data: it holds listops"):
        tasks.unpack(tmp_path / "sparse.tar", tmp_path / "cache")


def test_a_release_that_explodes_is_refused(tmp_path: Path):
    """128 MB of zeros in a member that is not needed are read only up to the limit."""
    with gzip.open(tmp_path / "lra_release.gz", "wb", compresslevel=1) as file:
        member = tarfile.TarInfo("lra_release/large.tsv")
        member.size = 2**27
        file.write(member.tobuf())
        for _ in range(2**7):
            file.write(bytes(2**20))
    with pytest.raises(DataError, match="unpacks to many times"):
        _release.unpack(tmp_path, ["lra_release"], ["a.tsv"], tmp_path / "cache", False)


def test_no_bit_of_a_ladder_flips_unnoticed(original: tasks.Data, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(_ladders, "SHIPPED", (tmp_path,))
    draw, rungs = random.Random(0), {"constant": 0.17, "root operator": 0.364}
    path = tasks.store_ladder(tmp_path, original, rungs)
    whole = path.read_bytes()
    for _ in range(60):
        flip(path, draw)
        assert _ladders.find_ladder(original) in (None, rungs)
        path.write_bytes(whole)
    for wrong in (90.27, float("nan"), -5, float("inf")):
        stored = json.loads(whole) | {"rungs": rungs | {"constant": wrong}}
        stored.pop("digest")
        path.write_text(json.dumps(stored))
        assert _ladders.find_ladder(original) is None
