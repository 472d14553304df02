"""Retrieval: rows by hand in both forms of the files, subsets, leakage, the ladder, the real data."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from aan_files import (
    FULL,
    HEADER,
    OFFICIAL,
    SETTINGS,
    TASK,
    check_rows,
    prepare,
    released,
    texts,
    write_compact,
    write_released,
)
from test_release import archive

from tasks import DataError, find
from tasks.retrieval import task as retrieval

ROOT = Path(__file__).parent.parent
REAL = Path(os.environ.get("LRA_DATA", "")) / "aan"


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch):
    monkeypatch.delenv("LRA_DATA", raising=False)
    monkeypatch.delenv("LRA_ACCEPT_MIRROR", raising=False)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(retrieval, "ROWS", {"train": 3, "validation": 2, "test": 2})


def test_compact_rows_by_hand(tmp_path):
    data = prepare(write_compact(tmp_path))
    check_rows(data)
    assert (data.about["label"], data.about["source"]) == ("user's files", "docs.parquet + pairs.tsv")
    assert data.train.values is data.test.values
    assert data.train.values.tolist()[3] == [0] * 8
    assert isinstance(data.train.values, np.memmap)
    assert not data.train.values.flags.writeable
    assert data.train.pairs is not None
    types = [array.dtype for array in (data.train.values, data.train.lengths, data.train.pairs, data.train.labels)]
    assert types == [np.uint8, np.int32, np.int32, np.int64]
    assert data.about["leakage"]["test"] == {
        "documents": 0.75, "pairs with a known document": 1.0, "pairs of known documents": 0.5, "same pairs": 0.5,
    }  # fmt: skip
    sha256 = hashlib.sha256((tmp_path / "aan/pairs.tsv").read_bytes()).hexdigest()
    assert data.about["sha256"]["pairs.tsv"] == sha256
    assert data.hash == "4625d0b93e50"


def test_matched_list_and_folder_itself(tmp_path):
    folder = write_compact(tmp_path, name="pairs_matched.tsv")
    data = prepare(folder / "aan", replace(SETTINGS, retrieval_pairs="matched"))
    assert (data.about["label"], data.about["rows"]["train"]) == ("user's files", 3)
    with pytest.raises(DataError, match=r"aan lacks pairs\.tsv: put both files there"):
        prepare(folder)


@pytest.mark.parametrize("place", ["", "tsv_data", "lra_release/lra_release/tsv_data"])
@pytest.mark.usefixtures("few")
def test_released_rows_by_hand(tmp_path, place):
    write_released(tmp_path / place, released())
    data = prepare(tmp_path, OFFICIAL)
    check_rows(data)
    assert data.about["label"] == "official"
    assert set(data.about["sha256"]) == set(retrieval.FILES.values())


@pytest.mark.usefixtures("few")
def test_released_archive_and_windows_lines(tmp_path):
    files = {name: content.replace(b"\n", b"\r\n") for name, content in released().items()}
    archive(tmp_path, [(f"lra_release/lra_release/tsv_data/{name}", content) for name, content in files.items()])
    check_rows(prepare(tmp_path, OFFICIAL))


@pytest.mark.usefixtures("few")
def test_byte_order_marks(tmp_path):
    write_released(tmp_path, {name: b"\xef\xbb\xbf" + content for name, content in released().items()})
    check_rows(prepare(tmp_path, OFFICIAL))
    path = write_compact(tmp_path) / "aan/pairs.tsv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    check_rows(prepare(tmp_path))


def test_our_lists_have_labels_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(retrieval, "LISTED", {"train": 3, "validation": 2, "test": 2})
    assert prepare(write_compact(tmp_path)).about["label"] == "uniform pairs"


@pytest.mark.usefixtures("few")
def test_one_id_with_two_texts_keeps_both(tmp_path):
    files = released()
    files["new_aan_pairs.test.tsv"] = files["new_aan_pairs.test.tsv"].replace(b"alpha", b"omega")
    data = prepare(write_released(tmp_path, files), OFFICIAL)
    assert (texts(data.test, 0)[1], texts(data.train, 0)[0]) == (b"omega be", FULL)


def many(folder):
    """60 papers; three in four pairs have label 1, and their second paper is one of the 20 popular ones, below P20."""
    papers = {f"P{paper}": f"word{chr(97 + paper % 26)} shared text {paper}" for paper in range(60)}
    draw, lines = np.random.RandomState(0), []
    for split, rows in (("train", 400), ("eval", 80), ("test", 80)):
        for row in range(rows):
            second = draw.randint(20) if row % 4 else draw.randint(20, 60)
            lines.append(f"{split}\t{int(bool(row % 4))}\tP{draw.randint(60)}\tP{second}\n")
    return write_compact(folder, HEADER + "".join(lines), papers)


def test_subsets_keep_the_shares_and_move_with_the_seed(tmp_path):
    folder = many(tmp_path)
    whole = prepare(folder)
    some = replace(SETTINGS, train_rows=40, test_rows=12)
    data, again, other = (prepare(folder, replace(some, seed=seed), f"c{n}") for n, seed in enumerate((0, 0, 1)))
    assert data.about["rows"] == {"train": 40, "validation": 80, "test": 12}
    assert data.about["split_rule"] == "as listed; rows of train, test drawn, the labels' shares kept"
    assert (data.train.labels.sum(), data.test.labels.sum()) == (30, 9)
    assert data.hash == again.hash != other.hash
    drawn, rows = iter(texts(whole.train, row) for row in range(400)), [texts(data.train, row) for row in range(40)]
    assert all(row in drawn for row in rows)  # in the order of the file
    assert prepare(folder, replace(SETTINGS, seed=5)).folder == whole.folder
    with pytest.raises(DataError, match=r"data\.test_rows must be 0 \(all\) to 80, not 81"):
        prepare(folder, replace(SETTINGS, test_rows=81))


@pytest.mark.parametrize("change", [{"length": 0}, {"train_rows": -1}])
def test_settings_out_of_range(tmp_path, change):
    with pytest.raises(DataError, match=rf"retrieval: data\.{next(iter(change))} must be"):
        prepare(tmp_path, replace(SETTINGS, **change))


def test_ladder(tmp_path):
    data = prepare(many(tmp_path), replace(SETTINGS, length=40))
    rungs = TASK.ladder(data)
    assert list(rungs) == ["constant", "popularity of document 2", "byte histograms", "idf cosine"]
    assert (rungs["constant"], rungs["popularity of document 2"]) == (0.75, 1.0)
    assert all(0.5 < accuracy <= 1 for accuracy in rungs.values())


REAL_ONLY = pytest.mark.skipif(not (REAL / "docs.parquet").is_file(), reason="LRA_DATA has no aan/docs.parquet")
REALS = {"uniform": "e1fa7be8126c", "matched": "35ac409723c1"}


@REAL_ONLY
@pytest.mark.parametrize("pairs", REALS)
def test_real_data(tmp_path, pairs):
    data = TASK.prepare(TASK.settings(retrieval_pairs=pairs), REAL.parent, tmp_path, False)
    assert data.about["rows"] == {"train": 107_464, "validation": 13_223, "test": 12_743}
    assert (data.about["documents"], data.hash) == (10_852, REALS[pairs])
    assert all(abs(split.labels.mean() - 0.5) < 0.02 for split in (data.train, data.validation, data.test))
    assert (data.train.lengths.min(), data.train.lengths.max()) == (2508, 4000)
    assert ends(data) == ENDS[pairs]
    shipped = json.loads((ROOT / "results" / "ladders" / f"retrieval-{data.hash}.json").read_text())
    assert shipped["about"] == data.about
    rungs = TASK.climb(data)
    assert rungs == pytest.approx(shipped["rungs"], abs=0.002)  # the linear model's sums differ by machine
    assert TASK.ladder(data) == shipped["rungs"]


@REAL_ONLY
def test_a_batch_is_gathered_at_once(tmp_path):
    train = TASK.prepare(TASK.settings(), REAL.parent, tmp_path, False).train
    assert train.pairs is not None
    assert isinstance(train.values, np.ndarray)  # so that one index gathers all documents
    rows = np.random.RandomState(0).permutation(107_464)[:32]
    assert train.values[train.pairs[rows].ravel()].shape == (64, 4000)


def ends(data):
    """Hash of the first and of the last sample of each split: label and both texts."""
    return [
        hashlib.sha256(b"\t".join([b"%d" % split.labels[row], *texts(split, row)])).hexdigest()[:12]
        for split in (data.train, data.validation, data.test)
        for row in (0, -1)
    ]


ENDS = {  # first and last sample of train, validation, test
    "uniform": ["64709c0d1806", "b80bf8d12993", "8969c266ebaf", "898e7003d482", "3f6fd0959e33", "1cff64ee0458"],
    "matched": ["951bf0a8c3f1", "a3c90074be68", "e8b777a45535", "4757c45a2520", "108b6a541b84", "2665c5e8ebd2"],
}


@pytest.mark.parametrize("name", ["retrieval", "retrieval_matched"])
def test_without_files_the_remedy_names_the_task_that_was_asked_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("LRA_DATA", raising=False)
    task = find(name)
    with pytest.raises(DataError, match=f"with them: python run_lra.py data prepare --task {name} --data-dir DIR"):
        task.prepare(task.settings(), None, tmp_path, progress=False)


def test_prepared_pairs_are_used_again_without_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Any seed will do where nothing is drawn; without the files, only the whole lists are used."""
    folder, cache = write_compact(tmp_path), tmp_path / "cache"
    prepare(folder)
    with pytest.raises(DataError, match="without files"):
        TASK.prepare(SETTINGS, None, cache, progress=False)
    monkeypatch.setattr(retrieval, "LISTED", {"train": 3, "validation": 2, "test": 2})
    whole = prepare(folder, cache="other")
    for seed in (0, 5):
        assert TASK.prepare(replace(SETTINGS, seed=seed), None, tmp_path / "other", progress=False).hash == whole.hash
    with pytest.raises(DataError, match="without files"):
        TASK.prepare(replace(SETTINGS, seed=5, train_rows=2), None, tmp_path / "other", progress=False)
