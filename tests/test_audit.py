"""The quirk audit: every quirk is a field, is switched on by itself, and its effect is computed from records."""

from dataclasses import replace
from functools import partial

import asking
import pandas as pd
import pytest
from records import make

import tasks
from lra.audit import settings
from lra.audit.faults import QUIRKS, SUITES, suites_with
from lra.audit.quirks import compare, effects_of, run_audit, sheet_of, table
from lra.cli import main
from lra.config.resolve import as_dict
from lra.errors import ConfigError
from lra.experiments.data import resolve_for
from lra.report.format import DASH
from lra.results.record import load, save

asked = partial(asking.asked, tasks=["all"], protocol="quick")


def changed(one, other) -> dict:
    plain = [
        {f"{s}.{k}": v for s, values in as_dict(c).items() for k, v in values.items()}
        for c in (one.config, other.config)
    ]
    return {key: (plain[0][key], plain[1][key]) for key in plain[0] if plain[0][key] != plain[1][key]}


def test_every_fault_is_a_field_of_every_task_it_names():
    for quirk in QUIRKS:
        assert set(quirk.suites) <= set(SUITES)
        assert set(quirk.tasks) <= set(tasks.names())
        for task in filter(quirk.concerns, tasks.names()):
            on, off = (resolve_for(task, "standard", [override]) for override in (quirk.switch, quirk.sound))
            assert on != off, quirk.name


@pytest.mark.parametrize("quirk", [quirk for quirk in QUIRKS if not quirk.choice], ids=lambda quirk: quirk.name)
@pytest.mark.parametrize("suite", ["google", "nystromformer", "skyformer"])
def test_a_suite_has_the_faults_of_its_protocol(quirk, suite):
    """A quirk lists a suite if, and only if, the protocol of the suite has it on at least one task."""
    mine = [task for task in tasks.ARENA if quirk.concerns(task)]
    faulty = [task for task in mine if resolve_for(task, suite, []) == resolve_for(task, suite, [quirk.switch])]
    assert bool(faulty) == (suite in quirk.suites), faulty


def test_a_suite_is_named_only_on_the_tasks_where_it_has_the_fault():
    dropped = next(quirk for quirk in QUIRKS if quirk.name == "last batch dropped")
    assert suites_with(dropped, "listops") == ["nystromformer", "skyformer"]
    assert suites_with(dropped, "image") == ["google", "nystromformer", "skyformer"]
    assert suites_with(dropped, "pathfinder64") == [], "no suite's protocol has that task"


@pytest.mark.parametrize("protocol", ["quick", "skyformer"])
def test_each_fault_is_switched_on_alone(tmp_path, protocol):
    """Each run has one fault and its counterpart none, also under a protocol that has all faults."""
    comparisons = compare(asked(tmp_path, protocol=protocol))
    assert {c.quirk.name for c in comparisons} == {quirk.name for quirk in QUIRKS}
    for c in comparisons:
        for without, faulty in zip(c.without, c.faulty, strict=True):
            key, value = c.quirk.switch.split("=")
            ((field, (_, on)),) = changed(without, faulty).items()
            assert (field, str(on).lower()) == (key, value)
            for other in (f for f in QUIRKS if f.concerns(c.task) and not f.choice):
                section, name = other.sound.split("=")[0].split(".")
                assert str(as_dict(without.config)[section][name]).lower() == other.sound.split("=")[1]


def test_other_faults_of_retrieval_keep_the_protocols_pairs(tmp_path):
    pairs = {
        c.quirk.name: c.without[0].config.data.retrieval_pairs
        for c in compare(asked(tmp_path))
        if c.task == "retrieval"
    }
    assert pairs.pop("uniform, not matched pairs") == "matched"
    assert set(pairs.values()) == {"uniform"}


def test_the_audit_keeps_what_the_protocol_has(tmp_path):
    """Only faults are removed: under a protocol without clipping, the other comparisons do not clip, either."""
    clip = {c.quirk.name: c.without[0].config.train.clip for c in compare(asked(tmp_path, protocol="nystromformer"))}
    assert clip.pop("gradients clipped by value") == "norm"
    assert set(clip.values()) == {"none"}


def test_effects_are_what_the_records_say(tiny, tmp_path, capsys):
    command = ["audit", "--attn", "elu", "--task", "listops", "--protocol", tiny, "--seed", "0", "1", "2"]
    command += ["--set", "train.steps=20", "--out", str(tmp_path)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    frame = pd.read_csv(tmp_path / "audit.csv")
    assert list(frame["quirk"].unique()) == [
        "mean over padding",
        "no brackets",
        "last batch dropped",
        "gradients clipped by value",
    ]
    assert len(frame) == 4
    records = [load(path) for path in tmp_path.glob("*.json")]
    assert len(records) == 3 * 5
    assert len({r.protocol for r in records}) == 5
    line = frame[(frame["quirk"] == "no brackets") & (frame["attention"] == "elu")].iloc[0]
    sides = [
        [r.test_accuracy or 0 for r in records if r.row == "elu" and r.protocol == protocol]
        for protocol in ("tiny[train.steps=20]", "tiny[train.steps=20,data.brackets=False]")
    ]
    assert [line["without"], line["with"]] == pytest.approx([sum(side) / 3 for side in sides])
    assert line["difference"] == pytest.approx(line["with"] - line["without"])
    assert line["low"] <= line["difference"] <= line["high"]
    assert line["verdict"] in ("inside noise", "outside noise")
    assert set(frame[frame["quirk"] == "last batch dropped"]["verdict"]) == {"same answers"}
    dropped = [r.test_rows for r in records if "drop_last" in r.protocol]
    assert set(dropped) == {88}
    page = (tmp_path / "audit.md").read_text()
    assert sum(line.startswith("| listops ") for line in page.splitlines()) == 4
    assert "pkuzengqi/Skyformer" in page
    assert "no brackets" in printed
    before = {path: path.read_bytes() for path in tmp_path.glob("*.json")}
    assert main(command) == 0
    assert {path: path.read_bytes() for path in tmp_path.glob("*.json")} == before
    assert pd.read_csv(tmp_path / "audit.csv").equals(frame)


def test_what_has_no_data_is_not_measured(tmp_path):
    """The table of made-up records with two seeds of one task and no record of another."""
    comparisons = compare(asked(tmp_path, tasks=["pathfinder", "retrieval"], seeds=[0, 1]))
    accuracies = {"with": 0.55, "without": 0.61}
    done = {
        (run.task, run.row, run.seed, run.protocol): make(run.row, accuracies[side] + 0.01 * run.seed, seed=run.seed)
        for c in comparisons
        if c.task == "pathfinder"
        for side, runs in (("without", c.without), ("with", c.faulty))
        for run in runs
    }
    frame = table([effect for c in comparisons for effect in effects_of(c, done)])
    assert set(frame[frame["task"] == "retrieval"]["verdict"]) == {"not measured"}
    measured = frame[frame["task"] == "pathfinder"]
    assert set(measured["verdict"]) == {"2 seeds: no interval"}
    assert list(measured["difference"]) == pytest.approx([-0.06] * len(measured))
    words = sheet_of(frame).body
    assert all(line[5] == "\N{MINUS SIGN}6.0" for line in words if line[0] == "pathfinder")
    assert all(line[5] == DASH for line in words if line[0] == "retrieval")


def test_parts_add_up_to_the_whole_table(tiny, tmp_path, monkeypatch):
    """Each shard does its part, and the last to end writes the table of all pairs: here the first shard."""
    ran, frames = [], []

    def pretend(job, *_):
        ran.append(job.path)
        record = make(job.run.row, 0.4, seed=job.run.seed, task=job.run.task, protocol=job.run.protocol)
        save(replace(record, identity=job.path.stem.rpartition("-")[2]), tmp_path)
        if len(ran) == 1:
            frames.append(table(run_audit(replace(wanted, shard=(2, 2)))[0]))

    monkeypatch.setattr("lra.experiments.engine.run_job", pretend)
    wanted = asked(tmp_path, tasks=["listops"], protocol=tiny, seeds=[0, 1])
    frames.append(table(run_audit(replace(wanted, shard=(1, 2)))[0]))
    assert len(ran) == len(set(ran)) == 10
    assert set(frames[0]["seeds"]) < {0, 1, 2}
    assert set(frames[1]["seeds"]) == {2}


def test_of_all_tasks_those_without_data_are_left_out(tiny, tmp_path, monkeypatch, capsys):
    """A task that is named must have data, as for a run."""
    monkeypatch.delenv("LRA_DATA", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("lra.experiments.engine.run_job", lambda *_: None)
    monkeypatch.setattr("tasks._find.ARENA", ("listops", "retrieval"))
    (tmp_path / "empty").mkdir()
    wanted = asked(tmp_path / "runs", tasks=["all"], protocol=tiny, data_dir=tmp_path / "empty")
    assert set(table(run_audit(wanted)[0])["verdict"]) == {"not measured"}
    assert "1 of 2 tasks have data; missing: retrieval" in capsys.readouterr().err
    with pytest.raises(tasks.DataError, match="retrieval"):
        run_audit(replace(wanted, tasks=["listops", "retrieval"]))


@pytest.mark.parametrize(("ends", "code"), [("done", 0), ("failed", 1), (None, 75)])
def test_the_exit_code_is_that_of_a_run(ends, code, tiny, tmp_path, monkeypatch, capsys):
    """One of its runs fails, or is left to another process; all others are done."""

    def pretend(job, *_):
        status = "done" if "[" in job.run.protocol else ends
        if status is not None:
            accuracy = 0.4 if status == "done" else None
            record = make(job.run.row, accuracy, task=job.run.task, protocol=job.run.protocol)
            save(replace(record, identity=job.path.stem.rpartition("-")[2]), tmp_path)

    monkeypatch.setattr("lra.experiments.engine.run_job", pretend)
    words = ["audit", "--attn", "elu", "--task", "listops", "--protocol", tiny, "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path)]) == code
    assert ("are being done by another process" in capsys.readouterr().err) == (code == 75)


def test_the_audit_sets_its_own_fields(tmp_path):
    with pytest.raises(ConfigError, match=r"train\.clip=value: the audit itself sets this field"):
        compare(asked(tmp_path, overrides=("train.clip=value",)))


def test_settings_side_by_side(tmp_path, capsys):
    """One command runs an attention under each setting, and reports parameters, operations and differences by seed."""
    words = ["audit", "--attn", "elu", "--task", "listops", "--protocol", "tests/tiny.yaml", "--seed", "0", "1", "2"]
    words += ["--device", "cpu", "--out", str(tmp_path), "--settings"]
    assert main([*words, "model.backbone=flat,pyramid"]) == 0
    flat, pyramid = pd.read_csv(tmp_path / "settings.csv").to_dict("records")
    assert (flat["settings"], pyramid["settings"]) == ("model.backbone=flat", "model.backbone=pyramid")
    assert flat["seeds"] == pyramid["seeds"] == 3
    assert pyramid["parameters"] > flat["parameters"]
    assert flat["flops"] != pyramid["flops"]
    records = [load(path) for path in tmp_path.glob("listops*.json")]
    for line in (flat, pyramid):
        accuracies = [
            r.test_accuracy or 0 for r in records if f"model.backbone={r.backbone['name']}" == line["settings"]
        ]
        assert line["accuracy"] == pytest.approx(sum(accuracies) / 3)
    assert flat["difference"] != flat["difference"], "the first has none"
    later = [settings.Line("listops", "elu", (f"model.dim={dim}",), records[:3], 1, None) for dim in (8, 16)]
    assert list(settings.table(later)["difference"]) == [None, None], "the first setting has no finished run"
    usual = [r for r in records if r.backbone["name"] == "flat"]
    twice = settings.table(
        [settings.Line("listops", "elu", (word,), usual, 1, None, word == "one") for word in ("one", "two")]
    )
    assert (twice["difference"][1], twice["low"][1]) == (0.0, None), "the same answers have no noise"
    assert pyramid["difference"] == pytest.approx(pyramid["accuracy"] - flat["accuracy"])
    assert "Settings side by side" in (tmp_path / "settings.md").read_text()
    assert main([*words, "model.dim=8"]) == 2
    assert "--settings takes section.key=value,value" in capsys.readouterr().err
