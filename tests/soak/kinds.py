"""The kinds of files that the suite itself writes and reads: an example of each, and how it is read."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from records import bench, make

import tasks
from lra.experiments.plan import Request, plan
from lra.experiments.pretrain import hash_of
from lra.experiments.pretrain import read as read_pretraining
from lra.experiments.status import read_statuses
from lra.report.page import inspected
from lra.report.tables import published
from lra.results import bench_record, reading, record
from lra.training.checkpoint import read_state, read_weights, write_state, write_weights
from lra.training.run_folder import RunFolder
from tasks import _ladders, _store

ROOT = Path(__file__).parents[2]
ROWS = tasks.find("listops").settings(train_rows=30, validation_rows=20, test_rows=20, min_length=20, max_length=60)


class Noticed(Exception):  # noqa: N818
    """A reader has reported a damaged file by other means than an error."""


@dataclass(frozen=True)
class Kind:
    """Files whose bits are flipped, one at a time.

    read: returns (identity of a result that uses the files, content). Content may change if the identity does: the hash
    of data read from a raw file is part of the identity of each run, so that runs on changed data are other runs.
    words: the content is text that is shown and not computed with; any content is allowed, but no traceback.
    """

    name: str
    files: list[Path]
    read: Callable[[], tuple[Any, Any]]
    words: bool = False


def of_a_record(folder: Path) -> Kind:
    path = record.save(make("softmax", 0.4), folder)
    return Kind("record", [path], lambda: ("", record.load(path)))


def of_a_bench(folder: Path) -> Kind:
    path = bench_record.save(bench("softmax", 256), folder)
    return Kind("bench record", [path], lambda: ("", bench_record.load(path)))


def of_a_checkpoint(folder: Path) -> Kind:
    path = folder / "resume.pt"
    state = {"model": {"a": torch.arange(9.0)}, "update": {"b": torch.ones(3)}, "best": None, "progress": {"step": 5}}
    write_state(path, folder / "none.pt", state)

    def read() -> tuple[Any, Any]:
        stored = read_state(path, folder / "none.pt")
        assert stored is not None
        return "", (stored["model"]["a"].tolist(), stored["update"]["b"].tolist(), stored["best"], stored["progress"])

    return Kind("checkpoint", [path], read)


def of_weights(folder: Path) -> Kind:
    path = folder / "best.safetensors"
    write_weights(path, {"weight": torch.arange(12.0).reshape(3, 4), "scale": torch.tensor(2.0)})
    return Kind("weights", [path], lambda: ("", {name: t.tolist() for name, t in read_weights(path).items()}))


def of_a_pretraining(folder: Path) -> Kind:
    run, data = RunFolder(folder), prepared(folder / "cache")
    run.save_weights("encoder", {"weight": torch.arange(12.0)})
    weights = hash_of(folder / "encoder.safetensors")
    about = {
        "identity": "a",
        "by": "b",
        "steps": 9,
        "curve": [{"validation_loss": 2.5}],
        "reason": "",
        "weights": weights,
    }
    (folder / "pretraining.json").write_bytes(reading.encode_record(about))

    def read() -> tuple[Any, Any]:
        pretraining = read_pretraining(run, data)
        assert pretraining is not None
        return "", (pretraining[0], pretraining[1]["weight"].tolist())

    return Kind("pretrained encoder", [folder / "pretraining.json", folder / "encoder.safetensors"], read)


def of_a_log(folder: Path) -> Kind:
    """The files of a running run that `status` shows."""
    work = folder / "work" / "listops-elu-quick-s0-0123456789ab"
    work.mkdir(parents=True)
    (work / "run.json").write_text(json.dumps({"task": "listops", "row": "elu", "protocol": "quick", "steps": 60}))
    (work / "metrics.jsonl").write_text(json.dumps({"step": 20, "train_loss": 2.3, "seconds": 1.5}) + "\n")
    (work / "lock").touch()
    return Kind(
        "log of a run", [work / "run.json", work / "metrics.jsonl"], lambda: ("", read_statuses(folder)), words=True
    )


def of_figures(folder: Path) -> Kind:
    """Figures that `inspect` has drawn, which the page of a report shows."""
    from PIL import Image

    place = folder / "inspect" / "group"
    place.mkdir(parents=True)
    Image.linear_gradient("L").save(place / "map.png")
    index = {"title": "Maps", "notes": ["a note"], "figures": [{"file": "map.png", "title": "A map", "alt": "dark"}]}
    (place / "figures.json").write_text(json.dumps(index))

    def read() -> tuple[Any, Any]:
        folders, problems = inspected.find(folder / "out")
        if problems:
            raise Noticed(*problems)
        return "", folders

    return Kind("figures of inspect", [place / "figures.json", place / "map.png"], read, words=True)


def of_published_figures(folder: Path) -> Kind:
    for path in published.folder().iterdir():
        shutil.copy(path, folder)

    def read() -> tuple[Any, Any]:
        published.lines_of.cache_clear()
        return "", published.read(folder)

    return Kind("published figures", [folder / "skyformer.csv", folder / "SHA256SUMS"], read)


def of_a_protocol(folder: Path) -> Kind:
    """A protocol; every value that changes a number is in the identity of the runs."""
    path = folder / "mine.yaml"
    path.write_text((ROOT / "tests" / "tiny.yaml").read_text())

    def read() -> tuple[Any, Any]:
        runs = plan(Request(attentions=["elu"], tasks=["listops"], seeds=[0], protocol=str(path)))
        return [run.identity("data") for run in runs], [dataclasses.asdict(run.config) for run in runs]

    return Kind("protocol", [path], read)


def prepared(cache: Path) -> tasks.Data:
    return tasks.find("listops").prepare(ROWS, None, cache, False)


def arrays(data: tasks.Data) -> list[Any]:
    """Everything that a run reads of its data."""
    contents = []
    for split in (data.train, data.validation, data.test):
        split_arrays = [split.values, split.lengths, split.labels, *([] if split.pairs is None else [split.pairs])]
        groups = [(group, names, codes.tolist()) for group, (names, codes) in split.groups.items()]
        contents.append(([(array.shape, array.tobytes()) for array in split_arrays], groups))
    return contents


def of_prepared(folder: Path) -> list[Kind]:
    """The arrays of prepared data and their manifest, read as by `data verify` and by a run that is due to verify."""
    place = prepared(folder).folder

    def read() -> tuple[Any, Any]:
        data = _store.load(place)
        if data is None or (fault := tasks.find_fault(data)):
            raise Noticed("not whole" if data is None else fault)
        return data.hash, (data.spec, arrays(data))

    return [
        Kind("prepared arrays", sorted(place.glob("*.npy")), read),
        Kind("manifest of prepared arrays", [place / "manifest.json"], read),
    ]


def of_a_ladder(folder: Path) -> Kind:
    data = prepared(folder / "cache")
    path = tasks.store_ladder(folder, data, {"constant": 0.17, "root operator": 0.364})

    def read() -> tuple[Any, Any]:
        with patch.object(_ladders, "SHIPPED", (folder,)):
            rungs = _ladders.find_ladder(data)
        if rungs is None:
            raise Noticed("no ladder")
        return "", rungs

    return Kind("ladder", [path], read)


def of_an_archive(folder: Path) -> Kind:
    """An archive that `data pack` wrote."""
    path = folder / "packed.tar"
    tasks.pack([prepared(folder / "cache")], path)

    def read() -> tuple[Any, Any]:
        with fresh(folder / "other") as cache, contextlib.redirect_stderr(io.StringIO()):
            tasks.unpack(path, cache)
            data = prepared(cache)
            return data.hash, arrays(data)

    return Kind("archive of prepared data", [path], read)


@contextlib.contextmanager
def fresh(folder: Path):
    """An empty folder for the block."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


WRITTEN = (of_a_record, of_a_bench, of_a_checkpoint, of_weights, of_a_pretraining, of_a_log, of_figures,
           of_published_figures, of_a_protocol, of_prepared, of_a_ladder, of_an_archive)  # fmt: skip
