"""Text: bytes by hand, splits, draws, the ladder, and the real reviews if they are on this machine."""

import hashlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from parquet import LABELS, TEXTS, write, write_reviews

import tasks
from tasks import DataError, _draws

TASK = tasks.find("text")
SMALL = replace(TASK.settings(), length=10, validation_rows=2)
REAL = os.environ.get("LRA_DATA", "")


@pytest.fixture(autouse=True)
def no_data(monkeypatch):
    monkeypatch.delenv("LRA_DATA", raising=False)


@pytest.fixture
def small(tmp_path):
    write_reviews(tmp_path / "data", TEXTS, LABELS)
    return TASK.prepare(SMALL, tmp_path / "data", tmp_path / "cache", False)


def reviews(split):
    return [bytes(row[:length]) for row, length in zip(split.values, split.lengths, strict=True)]


def test_bytes_by_hand(small):
    """The first bytes, a letter of two bytes cut in half, an empty review as a space, nothing beyond the end."""
    assert small.spec == tasks.Spec(vocab=257, classes=2, length=10)
    found = reviews(small.test)
    hashes = [hashlib.sha256(text.encode()).digest() for text in TEXTS]
    order = np.argsort(np.array(hashes))
    assert found == [(TEXTS[row].encode() or b" ")[:10] for row in order]
    assert small.test.labels.tolist() == [LABELS[row] for row in order]
    row = found.index("Não é bom".encode()[:10])
    assert small.test.values[row].tolist() == [78, 195, 163, 111, 32, 195, 169, 32, 98, 111]
    assert b" " in found
    assert all((row[length:] == 0).all() for row, length in zip(small.test.values, small.test.lengths, strict=True))
    assert (small.test.values.dtype, small.test.lengths.dtype, small.test.labels.dtype) == ("u1", "i4", "i8")
    assert small.test.groups["label"][0] == ["negative", "positive"]
    assert (small.test.groups["label"][1] == small.test.labels).all()


def test_validation_is_held_out_of_train(small, tmp_path):
    assert small.about["rows"] == {"train": 6, "validation": 2, "test": 8}
    assert sorted(small.validation.labels) == [0, 1]
    assert sorted(reviews(small.train) + reviews(small.validation)) == sorted(reviews(small.test))
    assert small.about["label"] == "user's files"
    assert set(small.about["split_hash"]) == {"train", "validation", "test"}
    assert small.about["leakage"] == {"validation": {"reviews": 0.0}, "test": {"reviews": 0.75}}  # the files are equal
    historic = TASK.prepare(replace(SMALL, text_validation="test"), tmp_path / "data", tmp_path / "cache", False)
    assert historic.about["rows"] == {"train": 8, "validation": 8, "test": 8}
    assert reviews(historic.validation) == reviews(historic.test)
    fewer = replace(SMALL, train_rows=4, test_rows=4)
    part = TASK.prepare(fewer, tmp_path / "data", tmp_path / "cache", False)
    assert [np.bincount(split.labels).tolist() for split in (part.train, part.test)] == [[2, 2], [2, 2]]
    assert set(reviews(part.train)) <= set(reviews(small.train))


def test_reviews_prepared_before_their_leakage_was_counted_go_on(small, tmp_path):
    manifest = small.folder / "manifest.json"
    older = json.loads(manifest.read_text())
    del older["about"]["leakage"], older["digest"]
    manifest.write_text(json.dumps(older))
    again = TASK.prepare(SMALL, tmp_path / "data", tmp_path / "cache", False)
    assert (again.folder, again.hash) == (small.folder, small.hash)
    assert "leakage" not in again.about, "it was not made anew"


def test_what_was_prepared_is_used_again(small, tmp_path, monkeypatch):
    """Data prepared from the released files is found without naming them; other data only with its folder."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="forbids the download"):
        TASK.prepare(SMALL, None, tmp_path / "cache", False)
    manifest = small.folder / "manifest.json"
    about = json.loads(manifest.read_text())
    about["about"]["label"] = "official"
    del about["digest"]
    manifest.write_text(json.dumps(about))
    assert TASK.prepare(SMALL, None, tmp_path / "cache", False).folder == small.folder


def test_the_order_of_the_files_changes_nothing(small, tmp_path):
    write_reviews(tmp_path / "other", TEXTS[::-1], LABELS[::-1])
    again = TASK.prepare(SMALL, tmp_path / "other", tmp_path / "cache2", False)
    assert again.hash == small.hash
    shards = tmp_path / "shards"
    write(shards / "train-00000-of-00002.parquet", text=TEXTS[:3], label=LABELS[:3])
    write(shards / "train-00001-of-00002.parquet", text=TEXTS[3:], label=LABELS[3:])
    write(shards / "test-00000-of-00001.parquet", text=TEXTS, label=LABELS)
    assert TASK.prepare(SMALL, shards, tmp_path / "cache3", False).hash == small.hash
    (shards / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(DataError, match=r"lacks train-00001-of-00002\.parquet"):
        TASK.prepare(SMALL, shards, tmp_path / "cache3", False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 0}, r"data\.length must be 1 to"),
        ({"train_rows": 7}, r"data\.train_rows must be 0 \(all\) to 6, not 7"),
        ({"validation_rows": 8}, "leaves none of 8 reviews"),
        ({"test_rows": -1}, r"data\.test_rows must be 0"),
    ],
)
def test_impossible_settings(tmp_path, change, message):
    write_reviews(tmp_path / "data", TEXTS, LABELS)
    with pytest.raises(DataError, match=message):
        TASK.prepare(replace(SMALL, **change), tmp_path / "data", tmp_path / "cache", False)


def test_draws_keep_the_shares_of_the_labels():
    labels = np.array([0] * 60 + [1] * 30 + [2] * 10)
    for rows in (1, 7, 50, 99, 100):
        drawn = _draws.stratified("a stream", labels, rows)
        assert len(set(drawn.tolist())) == rows
        assert (np.abs(np.bincount(labels[drawn], minlength=3) - rows * np.array([0.6, 0.3, 0.1])) < 1).all()
    assert _draws.shuffled("a stream", 8).tolist() == [3, 6, 1, 0, 5, 2, 4, 7]


def test_ladder_by_hand(tmp_path):
    """The label is whether the text contains "ab", which counts of single bytes cannot show."""
    pytest.importorskip("sklearn")
    drawn = np.random.default_rng(0).permuted(np.tile([97, 98, 99, 99, 100, 100], (300, 1)), axis=1)
    texts = [bytes(row.tolist()).decode() for row in drawn]
    write_reviews(tmp_path / "data", texts, [int("ab" in text) for text in texts])
    data = TASK.prepare(SMALL, tmp_path / "data", tmp_path / "cache", False)
    assert TASK.ladder(data) == {"constant": TASK.climb(data)["constant"]}
    rungs = TASK.climb(data)
    assert rungs["bag of bytes"] == rungs["constant"] < 0.9
    assert rungs["bag of byte 3-grams"] > 0.99
    tasks.store_ladder(data.folder, data, rungs)
    assert TASK.ladder(data) == rungs


def test_ladder_without_sklearn(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert list(TASK.ladder(small)) == ["constant"]
    with pytest.raises(DataError, match=r"pip install -e '\.\[ladder\]'"):
        TASK.climb(small)


@pytest.mark.skipif(not (Path(REAL) / "imdb").is_dir() or not REAL, reason="LRA_DATA holds no imdb")
def test_real_reviews(tmp_path):
    data = TASK.prepare(TASK.settings(), Path(REAL), tmp_path, False)
    assert data.about["rows"] == {"train": 22_500, "validation": 2500, "test": 25_000}
    assert [np.bincount(split.labels).tolist() for split in (data.train, data.validation, data.test)] == [
        [11_250, 11_250], [1250, 1250], [12_500, 12_500],
    ]  # fmt: skip
    splits = (data.train, data.validation, data.test)
    ends = [
        hashlib.sha256(text).hexdigest()[:12] for split in splits for text in (reviews(split)[0], reviews(split)[-1])
    ]
    assert ends == [
        "00008ec0634b", "fff971d135bc", "0001bc097b0b", "ffd17b874b58", "0006bbe6e89f", "fffea08578f9",
    ]  # fmt: skip
    assert reviews(data.test)[0].startswith(b"Kahin Pyaar Na Ho Jaaye is a great family movie.")
    assert data.about["label"] == "official"
    assert data.hash == "30871260eb71"
    assert data.about["leakage"] == {"validation": {"reviews": 17 / 2500}, "test": {"reviews": 112 / 25_000}}
    shipped = Path(__file__).parent.parent / "results" / "ladders" / f"text-{data.hash}.json"
    rungs = json.loads(shipped.read_text())["rungs"]
    assert TASK.climb(data) == pytest.approx(rungs, abs=0.002)  # sums differ by machine
    assert TASK.ladder(data) == rungs
