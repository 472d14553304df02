"""A task in a user's file: the one of docs/add-a-task.md, files beside it, and every way such a file can be wrong."""

import os
import random
import re
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from asking import run_grid

import lra
import tasks
from attention_zoo import _process
from lra.cli import main
from lra.errors import ConfigError
from lra.experiments.plan import Request, plan
from lra.results.bench_record import read_benches
from tasks import DataError
from tasks._user import PREFIX, import_file

PAGE = Path(__file__).parent.parent / "docs" / "add-a-task.md"
LISTING = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]


@pytest.fixture
def majority(tmp_path):
    path = tmp_path / "majority.py"
    path.write_text(LISTING.replace('"majority"', f'"m{abs(hash(tmp_path)) % 10**8}"'))
    return path


def test_the_page_runs_and_is_learned(majority, tmp_path, capsys):
    out = tmp_path / "runs"
    command = ["--attn", "softmax", "--task", str(majority), "--protocol", "quick", "--out", str(out)]
    command += ["--set", "train.gear=eager"]
    assert main(command) == 0
    assert "Majority" in capsys.readouterr().err
    (path,) = out.glob("*.json")
    frame = lra.records(path)
    assert float(frame["test_accuracy"].iloc[0]) > 0.8
    assert lra.load(path).record.data["code"] == majority.read_text()
    assert main(command) == 0
    assert "1 of 1 runs have a final record" in capsys.readouterr().err
    assert main(["data", "status", "--task", str(majority)]) == 0
    assert "generated while it is read, nothing to prepare" in capsys.readouterr().out


def test_an_edited_climb_is_climbed_anew(majority, tmp_path, monkeypatch):
    """The data stays the same; a stored ladder counts only for the version of the file that computed it."""
    text, kept = majority.read_text(), set()
    for rung in (0.5, 0.75):
        for name in [name for name in sys.modules if name.startswith(PREFIX)]:
            monkeypatch.delitem(sys.modules, name)  # as if in another process
        majority.write_text(text.replace("task = ", f"Majority.climb = lambda self, data: {{'rule': {rung}}}\ntask = "))
        data = prepare(majority, tmp_path)
        assert [tasks.find(str(majority)).ladder(data) for _ in range(2)] == [{"rule": rung}] * 2
        kept |= set(data.folder.glob("*.json"))
    assert len(kept) == 1


def prepare(path, cache):
    task = tasks.find(str(path))
    return task.prepare(task.settings(), None, cache, False)


def test_the_record_keeps_the_text_that_ran(majority, tmp_path):
    """Even if the file has been deleted before the run."""
    text = majority.read_text()
    few = ("train.steps=2", "train.warmup=1", "train.evaluate_every=2", "train.gear=eager")
    task, out = [str(majority)], tmp_path / "runs"
    wanted = Request(attentions=["mean"], tasks=task, seeds=[0], protocol="quick", overrides=few, out=out)
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


def test_a_user_s_pairs(tmp_path):
    """There may be more samples than documents; other pairs change the hash of the data."""
    data, other = (of_pairs(pairs(**c), tmp_path) for c in ({}, {"pairs": np.zeros((4, 2), np.int32)}))
    assert data.hash != other.hash
    for changes, message in (
        (
            {"pairs": np.array([[0, 1], [1, 2], [2, 3], [1, 1]], np.int32)},
            r"row 2: the pair \[2, 3\] is not among the 3",
        ),
        ({"pairs": np.zeros((4, 3), np.int32)}, r"pairs \(4, 3\) must be \(4, 2\)"),
        ({"pairs": None, "labels": np.array([0, 1, 1])}, "set both spec.pair and the split's pairs, or neither"),
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
        ("Spec(vocab=3", "Spec(vocab=2", "row 0: the value is 1, above 0, the largest that spec.vocab allows"),
        ("classes=2", "classes=1", "row .*: the label is 1, not one of 0 to 0"),
        ('    title = "Majority"\n', "", 'Majority has no title: add the line `title = "Mine"`'),
        ("settings = Settings", "settings = 3", "settings must be a dataclass, not 3"),
        (
            "from dataclasses",
            "from .rules import rule\nfrom dataclasses",
            "write `from rules import rule`, not `from .rules",
        ),
        (
            "from dataclasses",
            "from . import rules\nfrom dataclasses",
            "write `import rules`, not `from . import rules`",
        ),
        ("from dataclasses", "rules = (\nfrom dataclasses", "fails to import: SyntaxError"),
        ("astype(np.int32)", "astype(np.int64)", "values, lengths, labels must be uint8, int32, int64"),
        ('"validation": split(200), ', "", "no validation split"),
    ],
)
def test_bad_file(majority, tmp_path, old, new, message):
    assert old in majority.read_text()
    majority.write_text(majority.read_text().replace(old, new))
    with pytest.raises(DataError, match=message) as caught:
        prepare(majority, tmp_path)
    assert "\n" not in str(caught.value)


FAULTY = {
    "no groups": ({}, None),
    "too few": ({"parity": (["even", "odd"], np.zeros(3, np.uint8))}, "the group 'parity' has 3 codes for 4 samples"),
    "unknown code": (
        {"parity": (["even"], np.array([0, 0, 1, 0], np.uint8))},
        "row 2: the code of the group 'parity' is 1",
    ),
    "no numbers": (
        {"parity": (["even"], np.zeros(4))},
        "the codes of the group 'parity' must be integers, not float64",
    ),
}


@pytest.mark.parametrize(("groups", "message"), FAULTY.values(), ids=FAULTY)
def test_groups_must_fit_the_samples(tmp_path, groups, message):
    split = pairs(groups=groups)
    if message is None:
        assert of_pairs(split, tmp_path).train is split
    else:
        with pytest.raises(DataError, match=message):
            of_pairs(split, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.array([0, 1, -1, 0])}, "row 2: the label is -1, not one of 0 to 1"),
        ({"labels": np.array([0, 1, 7, 0])}, "row 2: the label is 7, not one of 0 to 1"),
        ({"lengths": np.array([5, 0, 5], np.int32)}, "row 1: the length is 0, not 1 to 5"),
        ({"lengths": np.array([5, 5, 6], np.int32)}, "row 2: the length is 6, not 1 to 5"),
        ({"values": np.array([[0] * 5, [1] * 5, [0, 0, 9, 0, 0]], np.uint8)}, "row 2: the value is 9, above 1"),
        ({"values": [[0]]}, "must be uint8, int32, int64, not list, int32, int64"),
    ],
)
def test_the_fault_and_its_row_are_named(tmp_path, changes, message):
    with pytest.raises(DataError, match=f"retrieval, train: .*{message}"):
        of_pairs(pairs(**changes), tmp_path)


def test_files_beside_a_task_are_its_own(tmp_path):
    """Two folders with helpers of the same names, imported with the task or later; each task gets its own helpers."""
    hashes = []
    for folder, more in (("a", 1), ("b", 2)):
        place = tmp_path / folder
        (place / "parts").mkdir(parents=True)
        (place / "rule.py").write_text(f"from limit import LIMIT\n\ndef many(lengths):\n    return lengths + {more}\n")
        (place / "limit.py").write_text("LIMIT = 60\n")
        (place / "parts/late.py").write_text(f"SEED = {more}\n")
        text = LISTING.replace('"majority"', f'"beside_{folder}"').replace(
            "import numpy as np", "import numpy as np\nimport rule"
        )
        text = text.replace("settings.rows)", "rule.many(settings.rows))").replace("(settings.seed)", "(self.late())")
        late = "    def late(self):\n        import parts.late\n\n        return parts.late.SEED\n\n\ntask = "
        (place / "mine.py").write_text(text.replace("\ntask = ", late))
    for folder in ("a", "b"):
        tasks.find(str(tmp_path / folder / "mine.py"))
    for folder, more in (("a", 1), ("b", 2)):
        data = prepare(tmp_path / folder / "mine.py", tmp_path)
        assert data.about["rows"]["train"] == 500 + more
        hashes.append(data.hash)
    assert len(set(hashes)) == 2
    assert not {"rule", "limit", "parts"} & set(sys.modules)
    assert str(tmp_path / "a") not in sys.path


def test_a_failed_import_can_be_mended(majority):
    neighbour = majority.with_name("rules.py")
    neighbour.write_text("1 / 0\n")
    majority.write_text(f"import rules\n{majority.read_text()}")
    with pytest.raises(DataError, match="fails to import: ZeroDivisionError"):
        tasks.find(str(majority))
    neighbour.write_text("")
    assert tasks.find(str(majority)).title == "Majority"


def test_a_byte_order_mark_and_windows_lines(majority):
    text = majority.read_text()
    majority.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    task = tasks.find(str(majority))
    assert tasks.code_of(task.name) == text


def test_names_that_differ_in_a_sign_alone_are_two_files(majority):
    files = [majority.with_name(name) for name in ("a-b.py", "a_b.py", "a.b.py")]
    for number, file in enumerate(files):
        file.write_text(f"X = {number}\n")
    assert [import_file(file)[0].X for file in files] == [0, 1, 2]


def test_names_that_are_not_utf_8(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    path = folder / os.fsdecode(b"t\xe2che.py")
    path.write_text(LISTING.replace('"majority"', '"not_utf_8"'))
    assert prepare(path, folder / "cache").about["task"] == "not_utf_8"
    with pytest.raises(DataError) as caught:
        tasks.find(str(folder / "none.py"))
    str(caught.value).encode()
    with pytest.raises(DataError, match="no task file at"):
        tasks.find("~nobody-of-this-name/mine.py")


def test_all_and_repeated_tasks_are_expanded_once(majority):
    name = tasks.find(str(majority)).name
    assert tasks.expand(["text", "all", str(majority), name, "text"]) == [
        "text", *(task for task in tasks.ARENA if task != "text"), name,
    ]  # fmt: skip
    assert tasks.expand([]) == []
    with pytest.raises(DataError, match="unknown task 'txet', did you mean 'text'"):
        tasks.expand(["all", "txet"])


def test_an_error_in_prepare_names_its_line(majority, tmp_path):
    text = majority.read_text()
    majority.write_text(text.replace("        rng = ", "        1 / 0\n        rng = "))
    line = text[: text.index("        rng = ")].count("\n") + 1
    asked = Request(attentions=["mean"], tasks=[str(majority)], seeds=[0], protocol="quick", out=tmp_path / "runs")
    with pytest.raises(
        DataError, match=f"majority.py, line {line}: prepare fails: ZeroDivisionError: division by zero"
    ):
        run_grid(asked)


def test_an_import_binds_what_it_names_and_nothing_else(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("HERE = 'parts'\n")
    (tmp_path / "parts" / "tools.py").write_text("HERE = 'tools'\n")
    lines = (
        "import parts.tools\n"
        "assert (parts.HERE, parts.tools.HERE) == ('parts', 'tools')\n"
        "assert 'tools' not in globals()\n"
        "import parts.tools as renamed\n"
        "assert renamed.HERE == 'tools'\n"
    )
    path = tmp_path / "importing.py"
    path.write_text(lines + LISTING.replace('"majority"', '"importing"'))
    assert tasks.find(str(path)).name == "importing"


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("import torch; torch.set_default_dtype(torch.float64)", "the default dtype"),
        ("import torch; torch.set_num_threads(torch.get_num_threads() + 1)", "the number of threads"),
        ("import torch; torch.manual_seed(3)", "torch's seed"),
        ("import random; random.seed(3)", "Python's random numbers"),
        ("import warnings; warnings.simplefilter('ignore')", ""),
    ],
)
def test_what_a_file_sets_for_the_process_is_taken_back(statement, names, majority, capsys):
    def look():
        held = _process.look(), torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())
        return *held, warnings.filters[:]

    majority.write_text(f"{statement}\n{majority.read_text()}")
    before = look()
    plan(Request(attentions=["mean"], tasks=[str(majority)], seeds=[0], protocol="quick"))
    assert look() == before
    said = capsys.readouterr().err
    assert (f"majority.py changes {names} when it is imported; this is taken back" in said) == bool(names)
    assert ("is taken back" in said) == bool(names)


@pytest.mark.usefixtures("quiet_machine")
def test_bench_measures_it(majority, tmp_path):
    """The bench runs in a process of its own, which also imports the file."""
    out = tmp_path / "bench"
    command = ["bench", "--attn", "mean", "--task", str(majority), "--repeats", "1", "--budget", "5", "--device", "cpu"]
    assert main([*command, "--mode", "training", "--out", str(out)]) == 0
    benches, problems = read_benches([out])
    assert [(bench.status, bench.reason) for bench in benches] == [("done", "")]
    assert problems == []


def test_a_built_in_task_in_memory_is_no_users_task(majority, tmp_path):
    assert of_pairs(pairs(), tmp_path).about["label"] == "generated"
    assert prepare(majority, tmp_path).about["label"] == "user's"


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
