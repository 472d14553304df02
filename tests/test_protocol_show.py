"""`protocol show`: the description of a protocol, and all its values as a file that is the same protocol."""

import pytest

from lra.cli import main
from lra.config import protocol
from lra.config.resolve import config_hash
from lra.experiments.data import resolve_for

LOOPED = """
from lra.backbones import Block, Classifier, register

@register("looped", title="Looped encoder")
class Looped(Classifier):
    def build_body(self, model, make_attention, *, rounds: int = 2):
        return model.dim
"""
TASK = """
from dataclasses import dataclass
from tasks import Task

@dataclass(frozen=True)
class Settings:
    length: int = 60

class Shown(Task):
    name, title, settings = "shown", "Shown", Settings
    section = {"train": {"steps": 100, "batch": 32, "lr": 3e-3, "warmup": 10, "evaluate_every": 50}}

    def prepare(self, settings, data_dir, cache, progress): ...

task = Shown()
"""


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["protocol", "show", *words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "task", "overrides"),
    [
        ("standard", "listops", []),
        ("standard", "text", ["train.lr=3e-4", "train.end_lr=4e-6", "train.steps=50"]),
        ("google", "image", []),
        ("skyformer", "pathfinder", []),
        ("pyramid", "path256", ["model.stages=[1,1,1]"]),
        ("pretrained", "retrieval_matched", ["model.norm=post"]),
    ],
)
def test_every_value_is_a_protocol_file(name, task, overrides, tmp_path, capsys):
    words = [name, "--task", task, *(["--set", *overrides] if overrides else [])]
    file = tmp_path / "mine.yaml"
    file.write_text(shown(capsys, *words), encoding="utf-8")
    config = resolve_for(task, name, overrides)
    assert resolve_for(task, str(file), []) == config
    assert config_hash(resolve_for(task, str(file), [])) == config_hash(config)
    assert protocol.deviations_of(str(file)) == protocol.deviations_of(name)
    assert protocol.about_protocol(str(file)).startswith(f"{name}[" if overrides else f"{name} on ")


def test_what_is_printed(capsys):
    lines = shown(capsys, "--task", "listops", "skyformer", "--set", "train.lr=3e-4").splitlines()
    assert lines[0].startswith(
        "# skyformer[train.lr=0.0003] on ListOps, every key. Skyformer's settings (Chen et al. 2021"
    )
    assert "  warm start: none; theirs loads any older checkpoint of the default name before it trains" in lines
    assert lines[lines.index("tasks:") : lines.index("tasks:") + 4] == [
        "tasks:",
        "  listops:",
        "    model:",
        "      layers: 2",
    ]
    assert {"      select_after: 0.2", "      lr: 0.0003", "      brackets: false"} <= set(lines)


def test_a_protocol_without_a_task(capsys):
    text = shown(capsys, "google")
    lines = text.splitlines()
    assert lines[0].startswith(
        "Google's configurations (Tay et al. 2021) as its code has them last, with its transformer's sizes"
    )
    assert "  biases: attention has biases here, none there" in lines
    assert "task        steps  batch      lr  warmup  layers  dim  length" in lines
    assert "listops      5000     32    0.05    1000       4  512  2000 (data.max_length)" in lines
    assert "pathfinder  62400    512   0.001     312       4   32  32 x 32 pixels" in lines
    assert lines[-1] == "every key: python run_lra.py protocol show google --task listops"
    assert "differs from its source" not in shown(capsys, "quick")


def test_files_of_users(tmp_path, capsys):
    (tmp_path / "looped.py").write_text(LOOPED)
    (tmp_path / "shown.py").write_text(TASK)
    (tmp_path / "mine.yaml").write_text("base: standard\ntasks: {shown: {train: {steps: 7}}}\n")
    mine = str(tmp_path / "mine.yaml")
    assert f"{mine} does not begin with a comment" in " ".join(shown(capsys, mine).split())
    assert "sections for tasks that are not built in, which --task names by their files: shown\n" in shown(capsys, mine)
    backbone = f"model.backbone={tmp_path / 'looped.py'}"
    printed = shown(capsys, "standard", "--task", str(tmp_path / "shown.py"), "--set", backbone, "model.rounds=3")
    assert f"backbone: {tmp_path / 'looped.py'}:looped\n" in printed
    (tmp_path / "again.yaml").write_text(printed)
    assert resolve_for("shown", str(tmp_path / "again.yaml"), []) == resolve_for(
        "shown", "standard", [backbone, "model.rounds=3"]
    )


@pytest.mark.parametrize("text", ["base: quick\ntasks: 5", "tasks: {5: {}}", "base: quick\ntasks: {on: {}}"])
def test_tasks_that_are_none(text, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    for words in (["show", str(path)], ["show", str(path), "--task", "listops"], ["diff", "quick", str(path)]):
        assert main(["protocol", *words]) == 2
        assert capsys.readouterr().err.count("expected") == 1


def test_help_says_how_many_protocols_an_action_takes(capsys):
    with pytest.raises(SystemExit):
        main(["protocol", "--help"])
    usage = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert [line.partition("protocol ")[2] for line in usage] == [
        "diff PROTOCOL PROTOCOL",
        "show PROTOCOL [--task TASK [--set KEY=VALUE ...]]",
        "keys [--page FILE]",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sho", "quick"], "invalid choice 'sho', did you mean 'show'?; there are diff, show, keys"),
        (["show"], "protocol show takes one protocol: protocol show standard --task listops"),
        (["show", "quik"], "unknown protocol 'quik', did you mean 'quick'?"),
        (["show", "quick", "--task", "lstops"], "unknown task 'lstops', did you mean 'listops'?"),
        (
            ["show", "google", "--task", "pathx"],
            "protocol google has no section for task 'pathx'; it has: listops, text",
        ),
        (
            ["show", "quick", "--task", "text", "--set", "train.lrr=1"],
            "unknown key train.lrr, did you mean 'train.lr'?",
        ),
        (["show", "quick", "--set", "train.lr=1"], "protocol show needs --task where there is --set"),
        (["show", "quick", "--tsk", "text"], "protocol has no option --tsk, did you mean '--task'?"),
        (["show", "quick", "--page", "x.md"], "protocol show does not take --page; it takes --task, --set"),
        (["diff", "quick"], "protocol diff takes two protocols: protocol diff standard skyformer"),
        (["diff", "quick", "deep", "--task", "text"], "protocol diff does not take --task; it takes no options"),
        (["keys", "quick"], "protocol keys takes no protocol; protocol show takes one"),
    ],
)
def test_mistakes(words, message, capsys):
    assert main(["protocol", *words]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
