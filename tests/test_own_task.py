"""A task in a user's own file: the one of docs/add-a-task.md, and every way such a file can be wrong."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lra
import tasks
from lra.cli import main
from lra.errors import ConfigError
from lra.experiments.grid import run_grid
from lra.experiments.plan import Request, plan
from tasks import DataError

PAGE = Path(__file__).parent.parent / "docs" / "add-a-task.md"
LISTING = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]


@pytest.fixture
def majority(tmp_path):
    path = tmp_path / "majority.py"
    path.write_text(LISTING.replace('"majority"', f'"m{abs(hash(tmp_path)) % 10**8}"'))
    return path


def test_the_page_runs_and_is_learned(majority, tmp_path, capsys):
    out = tmp_path / "runs"
    assert main(["--attn", "softmax", "--task", str(majority), "--protocol", "quick", "--out", str(out)]) == 0
    assert "Majority" in capsys.readouterr().err
    (path,) = out.glob("*.json")
    frame = lra.records(path)
    assert float(frame["test_accuracy"].iloc[0]) > 0.8
    assert lra.load(path).record.data["code"] == majority.read_text()
    assert main(["--attn", "softmax", "--task", str(majority), "--protocol", "quick", "--out", str(out)]) == 0
    assert "1 of 1 runs have a record" in capsys.readouterr().err
    assert main(["data", "status", "--task", str(majority)]) == 0
    assert "generated while it is read, nothing to prepare" in capsys.readouterr().out


def prepare(path, cache):
    task = tasks.find(str(path))
    return task.prepare(task.settings(), None, cache, False)


def test_the_record_keeps_the_text_that_ran(majority, tmp_path):
    """Also where the file is gone by then."""
    text = majority.read_text()
    wanted = Request(attentions=["mean"], tasks=[str(majority)], seeds=[0], protocol="quick", out=tmp_path / "runs")
    plan(wanted)
    majority.unlink()
    (record,) = run_grid(replace(wanted, tasks=[text.split('name = "')[1].split('"')[0]]))
    assert record.data["code"] == text


def pairs(**changes):
    rng = np.random.default_rng(0)
    split = {
        "values": rng.integers(0, 2, (3, 5)).astype(np.uint8),
        "lengths": np.full(3, 5, np.int32),
        "labels": np.array([0, 1, 1, 0]),
        "pairs": np.array([[0, 1], [1, 2], [2, 0], [1, 1]], np.int32),
    }
    return tasks.Split(**(split | changes))


def of_pairs(split, cache, **changes):
    task = tasks.find("retrieval")
    spec = tasks.Spec(**({"vocab": 3, "classes": 2, "length": 5, "pair": True} | changes))
    return tasks.in_memory(task, task.settings(), spec, dict.fromkeys(("train", "validation", "test"), split), cache)


def test_pairs_of_ones_own(tmp_path):
    """More samples than documents; other pairs are other data."""
    data, other = (of_pairs(pairs(**c), tmp_path) for c in ({}, {"pairs": np.zeros((4, 2), np.int32)}))
    assert data.hash != other.hash
    for changes, message in (
        ({"pairs": np.full((4, 2), 3, np.int32)}, r"pairs \(4, 2\) must be \(4, 2\), rows of the 3 documents"),
        ({"pairs": None, "labels": np.array([0, 1, 1])}, "spec.pair and the split's pairs belong together"),
        ({"labels": np.array([0, 1, 1])}, "do not fit"),
    ):
        with pytest.raises(DataError, match=message):
            of_pairs(pairs(**changes), tmp_path)


def test_more_classes_than_a_byte_has(majority, tmp_path):
    majority.write_text(majority.read_text().replace("classes=2", "classes=257"))
    asked = Request(attentions=["mean"], tasks=[str(majority)], seeds=[0], protocol="quick", out=tmp_path / "runs")
    with pytest.raises(ConfigError, match="has 257 classes; predictions are kept for at most 256"):
        run_grid(asked)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("import numpy as np", "import nothing_like_this", "fails to import: ModuleNotFoundError"),
        ("task = Majority()", "", "holds no task: end it with `task = MyTask\\(\\)`"),
        ('name = "', 'name = "My ', "a name is lower-case letters"),
        ("Spec(vocab=3", "Spec(vocab=2", "an id of 2 or a label of 1 is beyond the spec"),
        ("astype(np.int32)", "astype(np.int64)", "values, lengths, labels are uint8, int32, int64"),
        ('"validation": split(200), ', "", "no validation split"),
    ],
)
def test_bad_file(majority, tmp_path, old, new, message):
    assert old in majority.read_text()
    majority.write_text(majority.read_text().replace(old, new))
    with pytest.raises(DataError, match=message) as caught:
        prepare(majority, tmp_path)
    assert "\n" not in str(caught.value)


def test_an_error_in_prepare_names_its_line(majority, tmp_path):
    text = majority.read_text()
    majority.write_text(text.replace("        rng = ", "        1 / 0\n        rng = "))
    line = text[: text.index("        rng = ")].count("\n") + 1
    asked = Request(attentions=["mean"], tasks=[str(majority)], seeds=[0], protocol="quick", out=tmp_path / "runs")
    with pytest.raises(
        DataError, match=f"majority.py, line {line}: prepare fails: ZeroDivisionError: division by zero"
    ):
        run_grid(asked)


def test_taken_names(tmp_path):
    for name, file in (("listops", "a.py"), ("twice", "b.py")):
        (tmp_path / file).write_text(LISTING.replace('"majority"', f'"{name}"'))
    (tmp_path / "c.py").write_text(LISTING.replace('"majority"', '"twice"'))
    with pytest.raises(DataError, match="the name 'listops' is taken"):
        tasks.find(str(tmp_path / "a.py"))
    tasks.find(str(tmp_path / "b.py"))
    with pytest.raises(DataError, match="the name 'twice' is taken"):
        tasks.find(str(tmp_path / "c.py"))
    with pytest.raises(DataError, match="no task file at"):
        tasks.find(str(tmp_path / "d.py"))
