"""ListOps data: hand-checked samples, sizes, distinct trees, equal bytes everywhere, the ladder."""

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from listops_text import SHORT, WORDS, encode, parse, released_text, rows_of, value_of

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


@pytest.fixture(scope="module")
def long(cache):
    """Trees of the standard settings, but fewer."""
    return TASK.prepare(TASK.settings(train_rows=8000, validation_rows=100, test_rows=2000), None, cache, False)


def test_names_and_nearest():
    assert "listops" in tasks.names()
    with pytest.raises(DataError, match=r"unknown task 'listop', did you mean 'listops'\?"):
        tasks.find("listop")


def test_import_is_light():
    code = "import sys, tasks; tasks.find('listops'); assert not {'numba', 'torch', 'lra'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[MED 3 4 ]", 3),
        ("[MED 9 0 4 ]", 4),
        ("[MED 1 8 8 9 ]", 8),
        ("[SM 9 9 9 ]", 7),
        ("[MIN 7 2 5 ]", 2),
        ("[MAX 7 2 9 ]", 9),
        ("[MAX 2 [MIN 8 [SM 5 6 ] 4 ] 0 ]", 2),
        ("[SM [MED 1 2 3 ] [MAX 4 [MIN 9 8 ] ] 5 ]", 5),
        ("[MAX 2", -1),
        ("[MAX ]", -1),
        ("3 ]", -1),
        ("[MIN 1 2 ] 3", -1),
        ("7", -1),
    ],
)
def test_values_by_hand(short, text, value):  # noqa: ARG001 - the fixture sets numba's cache
    from tasks.listops.kernels import evaluate

    tokens = encode(text)
    assert evaluate(tokens, len(tokens), np.empty(9, np.int64), np.empty((9, 10), np.int64)) == value


def test_shapes_and_grammar(short):
    assert short.spec == tasks.Spec(vocab=16, classes=10, length=89)
    assert short.about["rows"] == {"train": 300, "validation": 40, "test": 50}
    assert (short.about["label"], short.about["seed"]) == ("generated", 0)
    seen = []
    for split, rows in ((short.train, 300), (short.validation, 40), (short.test, 50)):
        assert (split.values.shape, split.values.dtype) == ((rows, 89), np.uint8)
        assert (split.lengths.dtype, split.labels.dtype) == (np.int32, np.int64)
        names, codes = split.groups["root operator"]
        for row, tokens in enumerate(rows_of(split)):
            tree, used, _ = parse(tokens, SHORT)
            assert used == len(tokens)
            assert 10 < used < 90
            assert value_of(tree) == split.labels[row]
            assert f"[{names[codes[row]]}" == WORDS[tokens[0]]
            assert not split.values[row, used:].any()
            seen.append(tokens.tobytes())
    assert len(set(seen)) == len(seen)


@examples(max_examples=15, deadline=None)
@given(seed=st.integers(-(2**40), 2**40), depth=st.integers(5, 12), arguments=st.integers(4, 12))
def test_any_seed_keeps_the_grammar(short, seed, depth, arguments):  # noqa: ARG001
    from tasks.listops.generator import generate

    asked = replace(SHORT, seed=seed, max_depth=depth, max_args=arguments)
    for block in generate(asked, "train", 30, set()):
        for tokens, label in zip(rows_of(block), block.labels, strict=True):
            assert value_of(parse(tokens, asked)[0]) == label


def test_bytes_for_a_seed(short, tmp_path):
    content = b"".join(
        array.tobytes()
        for split in (short.train, short.validation, short.test)
        for array in (split.values, split.labels)
    )
    assert hashlib.sha256(content).hexdigest()[:16] == "ccdf5093dc6bffae"
    assert short.hash == "52f2644768c6"
    assert TASK.prepare(replace(SHORT, seed=1), None, tmp_path, False).hash != short.hash


def test_threads_change_nothing(short, tmp_path, monkeypatch):
    for threads in (1, 3):
        monkeypatch.setattr("numba.core.config.NUMBA_NUM_THREADS", threads)
        again = TASK.prepare(SHORT, None, tmp_path / str(threads), False)
        assert again.hash == short.hash
        assert TASK.climb(again) == TASK.ladder(short)


def test_splits_are_prefixes(short, tmp_path):
    fewer = TASK.prepare(replace(SHORT, train_rows=90, validation_rows=20), None, tmp_path, False)
    assert (fewer.test.values == short.test.values).all()
    assert (fewer.validation.values == short.validation.values[:20]).all()
    assert (fewer.train.lengths == short.train.lengths[:90]).all()


def test_a_tree_is_in_one_split_alone(short, tmp_path):  # noqa: ARG001 - the fixture sets numba's cache
    """The splits take 390 of the 400 trees of two digits, so that a tree in two splits would show."""
    few = replace(SHORT, min_length=3, max_length=5, max_args=2, train_rows=130, validation_rows=130, test_rows=130)
    data = TASK.prepare(few, None, tmp_path, False)
    trees = [{row.tobytes() for row in rows_of(split)} for split in (data.test, data.validation, data.train)]
    assert [len(split) for split in trees] == [130] * 3
    assert len(set().union(*trees)) == 390


def test_without_brackets(short, tmp_path):
    bare = TASK.prepare(replace(SHORT, brackets=False), None, tmp_path, False)
    assert bare.spec == short.spec
    assert bare.hash != short.hash
    assert (bare.test.labels == short.test.labels).all()
    for tokens, kept in zip(rows_of(short.test), rows_of(bare.test), strict=True):
        assert tokens[tokens != 14].tolist() == kept.tolist()
    assert list(TASK.ladder(bare)) == ["constant", "root operator"]


def test_distribution(long):
    from tasks.listops.generator import _scan, stream_of

    lengths = long.train.lengths
    assert 501 <= lengths.min() <= lengths.max() <= 1999
    assert abs(lengths.mean() - 1035) < 15
    assert abs(np.median(lengths) - 953) < 25
    shares = np.bincount(long.train.labels, minlength=10) / len(lengths)
    assert abs(shares[0] - 0.169) < 0.015
    assert abs(shares[9] - 0.167) < 0.015
    assert (shares[1:9] > 0.06).all()
    assert (shares[1:9] < 0.11).all()
    assert (np.abs(np.bincount(long.train.groups["root operator"][1]) / len(lengths) - 0.25) < 0.1).all()
    nesting = [np.cumsum(np.where(row == 14, -1, row >= 10)).max() for row in rows_of(long.test)]
    assert set(nesting) == {9}
    drawn, _ = _scan(TASK.settings(), stream_of("a stream for this test"), 0)
    assert abs((drawn > 0).mean() - 0.083) < 0.004


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_rows": 0}, r"data\.train_rows must be 1 to"),
        ({"max_length": 11}, r"data\.max_length must be 12 to"),
        ({"max_depth": 1}, r"data\.max_depth must be 2"),
        ({"max_args": 1}, r"data\.max_args must be 2"),
        ({"min_length": 900, "max_length": 2000, "max_depth": 3}, r"only 0 of 65536 random trees have more than 900"),
        ({"min_length": 3, "max_length": 5, "train_rows": 9000}, r"distinct trees .* lower data\.train_rows"),
    ],
)
def test_impossible_settings(cache, change, message):
    with pytest.raises(DataError, match=message) as caught:
        TASK.prepare(replace(SHORT, **change), None, cache, False)
    assert "\n" not in str(caught.value)


def test_hidden_subtrees(short):  # noqa: ARG001
    from tasks.listops.ladder import hide

    tokens = encode("[MAX 8 [MIN 1 [SM 2 3 ] ] 4 ]")
    kept = np.empty(20, np.uint8)
    for level, hide_operators, expected in (
        (1, True, [11, 8, 19, 4, 14]),
        (1, False, [11, 8, 15, 4, 14]),
        (2, False, [11, 8, 10, 1, 18, 14, 4, 14]),
        (3, False, tokens.tolist()),
    ):
        assert kept[: hide(tokens, len(tokens), level, hide_operators, kept)].tolist() == expected


@pytest.mark.parametrize(
    ("train", "test", "rungs"),
    [
        (
            [["[MIN", 1, 2], ["[MIN", 1, 3], ["[MIN", 1, 4], ["[MAX", 5, 9], ["[MAX", 0, 9]],
            [["[MIN", 1, 5], ["[MAX", 9, 3], ["[MAX", 2, 3], ["[MIN", 0, 1]],
            {"constant": 0.25, "root operator": 0.5},
        ),
        (
            [["[SM", 1, ["[MIN", 5, 5]], ["[SM", 4, ["[MIN", 5, 6]], ["[SM", 0, ["[MAX", 7, 3]]],
            [["[SM", 1, ["[MIN", 5, 9]], ["[SM", 1, ["[MIN", 2, 6]], ["[SM", 1, ["[MAX", 7, 7]]],
            {"constant": 1 / 3, "root operator": 1 / 3, "root operator + digits": 1 / 3, "1 level": 2 / 3},
        ),
    ],
)
def test_ladder_by_hand(tmp_path, train, test, rungs):
    """Second case: below the root, MIN is always 5 and MAX 7, and 5 is commoner; answers are 6, 6, 8 for 6, 3, 8."""
    for name, trees in (("train", train), ("val", train), ("test", test)):
        lines = [f"{released_text(tree)}\t{value_of(tree)}\n" for tree in trees]
        (tmp_path / f"basic_{name}.tsv").write_text("Source\tTarget\n" + "".join(lines))
    data = TASK.prepare(SHORT, tmp_path, tmp_path / "cache", False)
    assert TASK.ladder(data) == pytest.approx(rungs)


TABLE = {"constant": 17.1, "root operator": 36.4, "1 level": 60.4, "2 levels": 74.8, "3 levels": 84.2}
TABLE |= {"4 levels": 90.7, "5 levels": 94.1}


def test_ladder_rises(long):
    rungs = TASK.ladder(long)
    assert [*[*TABLE][:2], "root operator + digits", *[*TABLE][2:]] == list(rungs)
    assert all(lower < upper for lower, upper in pairwise(rungs.values()))
    assert all(abs(100 * rungs[rung] - accuracy) < 4 for rung, accuracy in TABLE.items())


def test_ladder_is_stored(short, tmp_path, monkeypatch):
    rungs = TASK.climb(short)
    assert list(rungs)[-1] == "4 levels"  # the trees nest five operators
    monkeypatch.setattr(type(TASK), "climb", lambda *_: pytest.fail("computed again"))
    assert TASK.ladder(short) == rungs
    path = tasks.store_ladder(tmp_path, short, {"constant": 0.5})
    assert path.name == f"listops-{short.hash}.json"
    assert json.loads(path.read_text())["about"]["settings"] == asdict(SHORT)
    monkeypatch.setattr("tasks._ladders.SHIPPED", (tmp_path,))
    assert TASK.ladder(short) == {"constant": 0.5}


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [{}, {"validation_rows": 2000, "test_rows": 2000, "brackets": False}], ids=["standard", "skyformer"]
)
def test_calibration(tmp_path, change):
    data = TASK.prepare(replace(TASK.settings(), **change), None, tmp_path, False)
    rungs = TASK.climb(data)
    shipped = json.loads((ROOT / "results" / "ladders" / f"listops-{data.hash}.json").read_text())
    assert shipped["rungs"] == rungs
    assert all(abs(100 * rungs[rung] - accuracy) < 2.5 for rung, accuracy in TABLE.items() if rung in rungs)
