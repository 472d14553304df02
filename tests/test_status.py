"""`status` and `--dry-run`: done, running, stopped, failed and missing runs, and the time that is left."""

import ast
import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import asking
import pytest
from asking import run_grid
from records import make

from lra.cli import main
from lra.experiments.status import RunStatus, estimated, plan_statuses, read_statuses
from lra.results import layout
from lra.results.locks import Holder, locked
from lra.results.record import load, save

ROOT = Path(__file__).parent.parent


asked = partial(asking.asked, overrides=("model.layers=1", "train.gear=eager", "train.select_after=0.0"))


@pytest.fixture(scope="module")
def grid(cache, tmp_path_factory):
    """Three runs of one command: one is done, one was stopped at step 45 and one has not begun."""
    assert cache.is_dir()
    out = tmp_path_factory.mktemp("runs")
    run_grid(asked(out))
    with pytest.raises(KeyboardInterrupt):
        run_grid(asked(out, attentions=["elu", "relu"], seeds=[0, 1], observe=asking.stop_at(45)))
    return asking.TINY, out


def by_name(statuses: list[RunStatus]) -> dict[tuple[str, int], RunStatus]:
    return {(status.row, status.seed): status for status in statuses}


def test_runs_by_state(grid):
    _, out = grid
    statuses, problems = read_statuses(out)
    found = by_name(statuses)
    assert not problems
    states = {name: (status.state, status.step, status.steps) for name, status in found.items()}
    assert states == {
        ("elu", 0): ("done", 60, 60),
        ("elu", 1): ("resumable", 40, 60),
        ("relu", 0): ("missing", 0, 60),
        ("relu", 1): ("missing", 0, 60),
    }
    (record,) = (load(path) for path in out.glob("*.json"))
    whole = sum(record.seconds.values())
    assert found["relu", 0].left == pytest.approx(whole), "as the other attention took"
    assert found["elu", 1].left == pytest.approx(whole / 3)
    assert by_name(plan_statuses(out, plan_of(out, ["elu", "relu"], [0, 1]))) == found
    more = by_name(plan_statuses(out, plan_of(out, ["elu", "pola"], [0])))
    assert {name: status.state for name, status in more.items()} == {("elu", 0): "done", ("pola", 0): "missing"}


def plan_of(out, attentions, seeds):
    from lra.experiments.plan import plan

    return plan(asked(out, attentions=attentions, seeds=seeds))


def test_the_commands_print_them(grid, capsys):
    tiny, out = grid
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert main(["status", str(out)]) == 0
    first, *lines, last = capsys.readouterr().out.splitlines()
    assert first.split() == ["state", "task", "attention", "protocol", "seed", "step", "left", "where,", "why"]
    assert lines[0].startswith("resumable  listops  elu ")
    assert lines[0].endswith("goes on from its checkpoint")
    assert "40 of 60" in lines[0]
    assert last.startswith("4 runs: 1 resumable, 2 missing, 1 done; about ")
    words = ["--attn", "elu", "pola", "--task", "listops", "--protocol", tiny, "--out", str(out), "--dry-run"]
    words += ["--set", "model.layers=1", "train.gear=eager", "train.select_after=0.0"]
    assert main(words) == 0
    assert "2 runs: 1 missing, 1 done; about " in capsys.readouterr().out
    assert main([*words, "--sweep", "train.lr=1e-3,1e-4"]) == 0
    assert "4 runs: 4 missing; 4 of 4 without an estimate" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before, "nothing was touched"


def test_who_is_running(grid, monkeypatch, capsys):
    _, out = grid
    (folder,) = (path for path in out.glob("work/*-elu-*") if (path / "resume.pt").exists())
    lock = folder / "lock"
    with locked(lock):
        (status,) = (status for status in read_statuses(out)[0] if status.state == "running")
        assert (status.row, status.seed, status.step, status.holder and status.holder.pid) == (
            "elu",
            1,
            40,
            os.getpid(),
        )
        assert main(["status", str(out)]) == 0
        said = capsys.readouterr().out
        assert f"process {os.getpid()}, for " in said
        assert "4 runs: 1 running, 2 missing, 1 done" in said
    lock.write_bytes(Holder(host="other", place="another machine", pid=9).encoded())
    assert by_name(read_statuses(out)[0])["elu", 1].state == "running", "as far as can be known from here"
    monkeypatch.setenv("LRA_STALE", "10")
    for path in folder.iterdir():
        os.utime(path, (time.time() - 1000, time.time() - 1000))
    assert by_name(read_statuses(out)[0])["elu", 1].state == "silent"
    assert main(["status", str(out)]) == 0
    assert "other, process 9, for 0 s; no heartbeat for 17 min" in capsys.readouterr().out
    lock.write_bytes(replace(Holder(), pid=2**22 + 1).encoded())
    assert by_name(read_statuses(out)[0])["elu", 1].state == "resumable", "its process was killed"
    lock.write_bytes(b"")


def test_failed_and_unreadable(tmp_path, capsys):
    own = tmp_path / "broken.py"
    own.write_text(
        "from attention_zoo import QKVAttention, register\n\n\n"
        '@register("broken", title="Broken")\nclass Broken(QKVAttention):\n'
        "    def attend(self, q, k, v, keep=None):\n        raise ValueError('too bad')\n"
    )
    run_grid(asked(tmp_path / "runs", attentions=[str(own)]))
    (tmp_path / "runs" / "x.json").write_text("{")
    assert main(["status", str(tmp_path / "runs")]) == 1
    said = capsys.readouterr()
    assert "1 run: 1 failed; 1 of 1 without an estimate" in said.out
    assert "ValueError: too bad" in said.out
    assert "x.json is not a record" in said.err
    assert main(["status", str(tmp_path / "nowhere")]) == 2


@pytest.mark.parametrize("about", ["[]", "[" * 100_000, '{"task": 1e999}', "\\xff"])
def test_odd_files_in_the_folder_of_a_run(about, tmp_path):
    folder = tmp_path / "work" / "listops-elu-quick-s3-0123456789ab"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(about)
    (folder / "metrics.jsonl").write_text('{"step": Infinity, "seconds": 1.0}\n')
    statuses, problems = read_statuses(tmp_path)
    assert ([(s.title, s.step) for s in statuses], problems) == ([("listops elu quick seed 3", 0)], [])


def test_two_versions_of_a_row_are_told_apart(capsys, tmp_path):
    for name in ("elu-quick-s3-0123456789ab", "elu-quick-s3-0123456789ff", "relu-quick-s3-0123456789ab"):
        folder = tmp_path / "work" / f"listops-{name}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
    assert main(["status", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "  elu (0123456789ab)  " in said
    assert "  elu (0123456789ff)  " in said
    assert "  relu  " in said


def test_time_left_by_own_steps():
    status = RunStatus(task="t", row="r", protocol="p", seed=0, state="resumable", step=25, steps=100, seconds=50.0)
    assert estimated([status], [])[0].left == 150.0
    assert estimated([replace(status, phase="pretraining")], [])[0].left is None


def test_names_of_files_are_those_of_the_layout():
    """File names are constants of the layout module, never written out elsewhere, except in docstrings."""
    names = {layout.ABOUT, layout.RESUME, layout.RESUME_BEFORE, layout.METRICS, layout.ERROR, layout.PRETRAINING}
    names |= {layout.weights_file(name) for name in (layout.BEST, layout.LAST, layout.ENCODER)}
    found = [
        (path.name, node.value)
        for path in (ROOT / "lra").rglob("*.py")
        if path.name != "layout.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert not found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--attn", "softmax", "--set", "model.heads=3"], "width 16 is not divisible by 3 heads"),
        (["--attn", "softmax:conv=4"], "the number of taps must be odd"),
        (["--attn", "pola*2+softmax*9"], "names mechanisms for 11 stages, but flat has 2"),
        (
            ["--attn", "softmax", "--set", "model.positions=rope", "model.heads=16"],
            "rotary positions need an even head",
        ),
        (
            ["--attn", "softmax", "--set", "model.grid=true", "model.pool=cls"],
            "with a cls token the tokens form no grid",
        ),
        (["--attn", "softmax", "--data-dir", "/nowhere"], "/nowhere is no folder"),
        (["--attn", "softmax", "--select", "validation"], "--select chooses among the values of --sweep"),
    ],
)
@pytest.mark.parametrize("ahead", [["--dry-run"], ["--engine", "slurm", "--emit", "grid.sbatch"]])
def test_what_a_run_would_refuse_is_refused_ahead(tiny, capsys, tmp_path, monkeypatch, ahead, words, message):
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--task", "listops", "--protocol", tiny, *ahead]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_plan_and_a_job_script_are_two_commands(tiny, capsys, tmp_path):
    words = ["--attn", "elu", "--task", "listops", "--protocol", tiny, "--dry-run", "--emit", str(tmp_path / "grid")]
    assert main(words) == 2
    assert "leave one of the two out" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


OWN = """
import torch.nn.functional as F
from attention_zoo import QKVAttention, linear_attention, register


@register("own", title="Own")
class Own(QKVAttention):
    def attend(self, q, k, v, keep=None):
        return linear_attention(F.relu(q), F.relu(k), v, keep)
"""


def test_runs_of_an_attention_before_an_edit_are_named(tiny, capsys, tmp_path):
    """Reports show each version as a row, which surprises users who edit the file between two seeds."""
    path, out = tmp_path / "own.py", tmp_path / "runs"
    words = ["--task", "listops", "--protocol", tiny, "--out", str(out), "--attn", str(path), "--set", "train.steps=2"]
    path.write_text(OWN)
    assert main([*words, "--seed", "0"]) == 0
    assert main([*words, "--seed", "1"]) == 0
    assert "other code" not in capsys.readouterr().err
    for seed in range(2):
        save(make("own", 0.3, seed=seed), out)
    assert main([*words, "--seed", "2"]) == 0
    assert f"own: 2 runs in {out} ran other code; a report shows each" in capsys.readouterr().err


def test_an_audit_says_ahead_what_it_will_run(tiny, capsys, tmp_path):
    words = ["audit", "--attn", "elu", "--task", "listops", "--protocol", tiny, "--out", str(tmp_path / "out")]
    assert main([*words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "data.brackets=False" in said
    assert "runs: " in said.splitlines()[-1]
    assert main([*words, "--dry-run", "--settings", "model.layers=1,2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("2 runs: 2 missing")
    assert not (tmp_path / "out").exists()
