"""Values that a record cannot keep are refused in one line before the first step, and no file is left."""

import dataclasses
import math
import re
from pathlib import Path

import pytest
from records import make

from lra.cli import main
from lra.errors import RecordError
from lra.results.record import faults, load, save

MINE = """
from attention_zoo import QKVAttention, register

@register("mine", title="Mine"{about})
class Mine(QKVAttention):
    def __init__(self, dims, *, {option}):
        super().__init__(dims)

    def attend(self, q, k, v, keep):
        return v
"""
BODY = """
from lra.backbones import Classifier, register

@register("tower", title={title})
class Tower(Classifier):
    def build_body(self, *, {key}):
        pass
"""
TASK = (Path(__file__).parent.parent / "docs" / "add-a-task.md").read_text()
TASK = re.findall(r"```python\n(.*?)```", TASK, re.DOTALL)[0]


@pytest.fixture
def refused(tmp_path, capsys):
    """A function that runs a command, which must fail in one line, and returns this line."""

    def run(*words):
        out, few = tmp_path / "runs", ("train.steps=2", "train.warmup=1", "train.evaluate_every=2")
        assert main([*words, "--out", str(out), "--set", *few]) == 2
        assert not list(out.glob("*.json")) + list(out.glob("work/*/*"))
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert last.startswith("error: ")
        return last

    return run


@pytest.mark.parametrize(
    ("option", "about", "words"),
    [
        ("a: float = None", "", "default of 'a'"),
        ("a: float = float('inf')", "", "default of 'a'"),
        ("a: int = (1, 2)", "", "default of 'a'"),
        ("a: int = 10**30", "", "default of 'a'"),
        ("a: int = True", "", "default of 'a'"),
        ("a: str = print", "", "default of 'a'"),
        ("a: int = 1", ", paper=None", "paper of @register"),
        ("a: int = 1", ", cost=3", "cost of @register"),
        ("a: int = 1", ", departs={'a': 3}", "departs of @register"),
        ("a: int = 1", ", expected_failures=['runs']", "expected_failures of @register"),
    ],
)
def test_an_attention_that_a_record_cannot_hold_is_refused(option, about, words, refused, tmp_path, tiny):
    path = tmp_path / "mine.py"
    path.write_text(MINE.format(option=option, about=about))
    assert words in refused("--attn", str(path), "--task", "listops", "--protocol", tiny)


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e999"])
def test_an_option_that_a_record_cannot_hold_is_refused(value, refused, tiny):
    words = ("--task", "listops", "--protocol", tiny)
    assert "must be a finite number" in refused("--attn", f"sinkhorn:temperature={value}", *words)


@pytest.mark.parametrize(
    ("title", "key", "words"),
    [
        ("3", "wide: int = 1", "must be strings"),
        ("'T'", "wide: float = float('inf')", "default of wide"),
        ("'T'", "wide: list[int] = [1]", "default of wide"),
        ("'T'", "wide: int = 10**30", "default of wide"),
    ],
)
def test_a_backbone_that_a_record_cannot_hold_is_refused(title, key, words, refused, tmp_path, tiny):
    path = tmp_path / "tower.py"
    path.write_text(BODY.format(title=title, key=key))
    command = ("--attn", "mean", "--task", "listops", "--protocol", tiny, "--backbone", str(path))
    assert words in refused(*command)


def task_with(tmp_path, change):
    """The path of a file with the task of docs/add-a-task.md, changed by `change`."""
    name = f"t{abs(hash(str(tmp_path))) % 10**8}"
    text = TASK.replace('"majority"', f'"{name}"')
    assert change(text) != text
    (tmp_path / "task.py").write_text(change(text))
    return str(tmp_path / "task.py")


@pytest.mark.parametrize(
    ("rungs", "words"),
    [
        ("{'constant': 37.2}", "not 'constant': 37.2"),
        ("{'constant': float('nan')}", "not 'constant': nan"),
        ("{'constant': None}", "not 'constant': None"),
        ("{3: 0.1}", "not '3': 0.1"),
        ("[0.1]", "not list"),
        ("None", "not NoneType"),
        ("{}[0]", "climb fails: KeyError"),
    ],
)
def test_a_ladder_that_a_record_cannot_hold_is_refused(rungs, words, refused, tmp_path):
    method = f"\n    def climb(self, data):\n        return {rungs}\n\n\ntask = "
    path = task_with(tmp_path, lambda text: text.replace("\n\ntask = ", method))
    assert words in refused("--attn", "mean", "--task", path)
    assert main(["data", "ladder", "--task", path]) == 2


@pytest.mark.parametrize("made", ["None", "{}", "3"])
def test_what_prepare_returns_must_be_data(made, refused, tmp_path):
    path = task_with(tmp_path, lambda text: re.sub(r"return (tasks\.)?in_memory\(", rf"return {made} and (", text))
    assert "prepare must return" in refused("--attn", "mean", "--task", path)


def test_data_that_prepare_made_by_itself(refused, tmp_path):
    """The checks of `in_memory` are repeated before a run."""
    after = "made.test.labels[3] = 7\n        return made\n"
    path = task_with(tmp_path, lambda text: re.sub(r"return (in_memory\(.*\)\n)", rf"made = \1        {after}", text))
    assert "test: row 3: the label is 7, not one of 0 to 1" in refused("--attn", "mean", "--task", path)


@pytest.mark.parametrize("value", [".nan", ".inf"])
def test_a_setting_that_a_record_cannot_hold_is_refused(value, refused, tmp_path):
    path = task_with(
        tmp_path, lambda text: text.replace("    seed: int = 0\n", "    seed: int = 0\n    cap: float = 1.0\n")
    )
    assert "a record cannot hold its bad config.data" in refused(
        "--attn", "mean", "--task", path, "--set", f"data.cap={value}"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": {"name": "mine", "options": {"a": None}}},
        {"attention": {"name": "mine", "options": {"a": {1}}}},
        {"config": {"data": {"cap": math.inf}}},
        {"ladder": {"constant": 37.2}},
        {"accuracy_by": {"depth": {"1": 2.0}}},
        {"row": "a\nb"},
        {"seed": 10**30},
    ],
)
def test_faults_are_what_load_refuses(changes, tmp_path):
    sound = make("mine", 0.4)
    odd = dataclasses.replace(sound, identity="0" * 12, **changes)
    assert not faults(sound)
    assert load(save(sound, tmp_path)) == sound
    assert faults(odd)
    with pytest.raises((RecordError, TypeError)):
        load(save(odd, tmp_path))


def test_a_damaged_record_does_not_keep_the_others_back(tmp_path, tiny, capsys):
    out = tmp_path / "runs"
    few = ["--set", "train.steps=2", "train.warmup=1", "train.evaluate_every=2", "--out", str(out)]
    command = ["--task", "listops", "--protocol", tiny, *few]
    assert main(["--attn", "mean", *command]) == 0
    (damaged,) = out.glob("*.json")
    damaged.write_text(damaged.read_text()[:-9])
    capsys.readouterr()
    assert main(["--attn", "mean", "identity", *command]) == 2
    assert f"{damaged} is not a record" in (lines := capsys.readouterr().err)
    assert lines.strip().endswith("; move it away to run it again")
    assert len(list(out.glob("*.json"))) == 2
    damaged.unlink()
    assert main(["--attn", "mean", "identity", *command]) == 0
