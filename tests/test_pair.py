"""`report --pair`: two models sample by sample."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asking import asked, run_grid
from records import make

from lra.cli import main
from lra.commands.report import labels
from lra.results.record import Record, hits, load, pack, save, unpack

RECORDS = Path(__file__).parent.parent / "results" / "records" / "version-2"


def answered(row: str, right: np.ndarray, seed: int = 0, **changes: Any) -> Record:
    bits = {"predictions": pack(bytes(len(right))), "correct": pack(np.packbits(right).tobytes())}
    return make(row, float(right.mean()), seed=seed, test_rows=len(right), **(bits | changes))


def committed(row: str) -> Record:
    return load(next(RECORDS.glob(f"listops-{row}-quick-s0-*.json")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    both, first, second = np.ones(61, bool), np.array([1] * 9 + [0] * 21, bool), np.array([0] * 9 + [1] * 21, bool)
    save(answered("softmax", np.concatenate([both, first, [False] * 10])), tmp_path)
    save(answered("pola", np.concatenate([both, second, [False] * 10])), tmp_path)
    save(answered("pola", np.concatenate([both, second, [False] * 10]), seed=1), tmp_path)
    return tmp_path


def test_bits_come_back(folder: Path):
    (file,) = folder.glob("*softmax*")
    found = hits(load(file))
    assert found is not None
    assert (len(found), sum(found), found[:61]) == (101, 70, [True] * 61)
    assert hits(make("relu", 0.3)) is None


def test_golden_text(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", str(folder), "--pair", "listops-softmax", "listops-pola-quick-s0"]) == 0
    assert (
        capsys.readouterr().out
        == """\
listops, 101 test rows (0123456789ab): 61 right by both, 10 by neither.

| Model                  |   Accuracy |   Right alone |
|:-----------------------|-----------:|--------------:|
| softmax, seed 0, quick |      69.31 |             9 |
| pola, seed 0, quick    |      81.19 |            21 |

Second less first: +11.88 ± 10.37 points (95 %). McNemar, exact: p = 0.043: the two models differ on such samples.
This compares two trained models on these samples, not two mechanisms: another seed makes another model.
For mechanisms, see the differences over seeds in the report.
"""
    )


def test_older_records_are_judged_by_their_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Records of schema 1 hold predictions, but not which were right, so that the data is generated again."""
    first, second = (save(dataclasses.replace(committed(row), correct=""), tmp_path) for row in ("softmax", "pola"))
    assert main(["report", "--pair", str(first), str(second)]) == 0
    printed = capsys.readouterr().out
    for path in (first, second):
        assert f"{100 * (load(path).test_accuracy or 0):.2f} |" in printed


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("listops-relu", "listops-softmax"), "no such record"),
        (("listops-pola", "listops-softmax"), "2 records have names that start with it"),
        (("text", "listops-softmax"), "different test rows"),
        (("image", "image"), "has no predictions: it is diverged"),
        (("listops-mean", "listops-mean"), "is named twice"),
        (("listops-mean", "listops-identity"), "its data is not here"),
    ],
)
def test_mistakes_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str], names: tuple[str, str], words: str):
    save(answered("softmax", np.ones(101, bool), task="text"), folder)
    save(make("softmax", task="image", status="diverged"), folder)
    for row in ("mean", "identity"):
        save(dataclasses.replace(committed(row), correct="", data={"hash": "f" * 12}), folder)
    assert main(["report", str(folder), "--pair", *names]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert len(captured.err.splitlines()) == 1


def test_labels_of_the_test_rows_come_without_a_ladder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A ladder can take minutes to compute."""
    (record,) = run_grid(asked(tmp_path, overrides=("train.steps=2", "train.warmup=1")))
    monkeypatch.setattr("tasks.Task.ladder", lambda *_: pytest.fail("computed"))
    right, answers = hits(record), labels(record)
    assert right is not None
    assert answers is not None
    predictions = np.frombuffer(unpack(record.predictions, len(answers)), np.uint8)
    assert (predictions == np.array(answers)).tolist() == right
