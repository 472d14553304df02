"""`--sweep`, the same tuning for all rows: separate pilots, choice by validation, one table, budgets in the records."""

import json
from dataclasses import replace
from functools import partial

import asking
import pytest
from records import make

from lra.cli import main
from lra.errors import ConfigError
from lra.experiments import sweep
from lra.experiments.plan import part_of_rows, plan
from lra.experiments.sweep import in_words, read_choices, run_sweep
from lra.report.groups import grouped
from lra.report.load import frame
from lra.results.record import faults, load

VALUES = ("train.lr=1e-9,3e-3",)


asked = partial(asking.asked, attentions=["elu", "softmax"], seeds=[0, 1])


@pytest.fixture(scope="module")
def swept(cache, tmp_path_factory):
    """A finished sweep of two values for two mechanisms and two seeds, on the command line."""
    assert cache.is_dir()
    out = tmp_path_factory.mktemp("swept")
    command = ["--attn", "elu", "softmax", "--task", "listops", "--protocol", asking.TINY, "--seed", "0", "1"]
    assert main([*command, "--out", str(out), "--sweep", *VALUES, "--select", "validation"]) == 0
    return out


def test_pilots_are_kept_apart(swept):
    pilots = [load(path) for path in (swept / "pilots").glob("*.json")]
    assert sorted((r.row, r.config["train"]["lr"]) for r in pilots) == [
        ("elu", 1e-9), ("elu", 3e-3), ("softmax", 1e-9), ("softmax", 3e-3),
    ]  # fmt: skip
    assert {r.seed for r in pilots} == {1000}
    assert all(r.tuning == {"pilot": True} for r in pilots)
    assert len(list(swept.glob("*.json"))) == 4
    assert 1000 not in set(frame([load(path) for path in swept.glob("*.json")])["seed"])


def test_choice_and_budget_are_in_every_record(swept):
    pilots = [load(path) for path in (swept / "pilots").glob("*.json")]
    for record in map(load, swept.glob("*.json")):
        mine = {r.config["train"]["lr"]: r.validation_accuracy for r in pilots if r.row == record.row}
        best = max((1e-9, 3e-3), key=lambda lr: mine[lr] or 0.0)
        assert record.config["train"]["lr"] == best
        assert record.tuning["chosen"] == {"train.lr": best}
        assert record.tuning["values"] == {"train.lr": [1e-9, 3e-3]}
        assert (record.tuning["pilots"], record.tuning["select"], record.tuning["pilot_seed"]) == (
            2,
            "validation",
            1000,
        )
        assert {v["train.lr"]: v["accuracy"] for v in record.tuning["validation_accuracy"]} == mine
        assert record.protocol == "tiny[swept: train.lr of 2]"


def test_the_same_sweep_again_runs_nothing_and_another_is_other_records(swept, capfd):
    before = {path: path.read_bytes() for path in swept.rglob("*.json")}
    records, _, complete = run_sweep(asked(swept), list(VALUES))
    assert complete
    assert len(records) == 4
    assert {path: path.read_bytes() for path in swept.rglob("*.json")} == before
    assert capfd.readouterr().err.count("4 of 4 runs have a final record") == 2


def test_a_backbone_can_be_swept(tmp_path, monkeypatch):
    """The runs of the seeds have the chosen backbone."""
    monkeypatch.setattr(sweep, "choose", lambda pilots: pilots[-1])
    wanted = asked(tmp_path, attentions=["elu"], seeds=[0])
    (record,), _, complete = run_sweep(wanted, ["model.backbone=flat,pyramid"])
    assert complete
    assert (record.status, record.backbone["name"]) == ("done", "pyramid")
    assert record.config["model"]["backbone"] == "pyramid"


def test_a_gear_sets_no_seeds_apart(swept):
    """The seeds of a tuned row stay in one table, whatever their gears, and even if older records lack newer fields."""
    first, *others = (load(path) for path in swept.glob("*.json"))
    other = replace(first, config=first.config | {"train": first.config["train"] | {"gear": "eager"}})
    assert len(grouped([other, *others])) == 1
    older = replace(other, config={"train": {k: v for k, v in other.config["train"].items() if k != "pretrain"}})
    assert len(grouped([older, *others])) == 1


def test_other_values_are_another_table(swept):
    """Mechanisms with different chosen values share a table; choices from different sets of values do not."""
    found = [load(path) for path in swept.glob("*.json")]
    unlike = [
        replace(r, config=r.config | {"train": r.config["train"] | {"lr": 1e-9}}, config_hash="ab")
        if r.row == "elu"
        else r
        for r in found
    ]
    (group,) = grouped(unlike)
    assert group.protocol == "tiny[swept: train.lr of 2]"
    assert group.rows == ("softmax", "elu")
    other = replace(found[0], tuning=found[0].tuning | {"values": {"train.lr": [1e-2, 3e-3]}})
    first, second = grouped([*found[1:], other])
    assert len(first.columns[0].cells) == 2
    assert second.apart == "train.lr=0.01 or 0.003"


BRITTLE = """
from pathlib import Path
from attention_zoo import QKVAttention, register

@register("brittle", title="Brittle")
class Brittle(QKVAttention):
    def attend(self, q, k, v, keep=None):
        assert self.dims.layer == 0 or Path(r"FLAG").exists(), "broken"
        return v
"""


def test_a_failed_pilot_holds_its_mechanism_back(tmp_path, capfd):
    """The pilot with a second layer fails until the flag is there."""
    file, flag = tmp_path / "brittle.py", tmp_path / "flag"
    file.write_text(BRITTLE.replace("FLAG", str(flag)))
    wanted = asked(tmp_path / "runs", attentions=["softmax", str(file)], seeds=[0], overrides=("train.steps=20",))
    records, _, complete = run_sweep(wanted, ["model.layers=1,2"])
    assert not complete
    assert [record.row for record in records] == ["softmax"]
    assert "listops brittle seed 0 waits: not all its pilots are done" in capfd.readouterr().err
    flag.touch()
    records, _, complete = run_sweep(wanted, ["model.layers=1,2"])
    assert complete
    assert sorted(record.row for record in records) == ["brittle", "softmax"]


def test_pilots_that_another_process_has_are_waited_for(tiny, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("lra.experiments.engine.run_job", lambda *_: None)
    words = ["--attn", "elu", "softmax", "--task", "listops", "--protocol", tiny, "--device", "cpu", "--out"]
    assert main([*words, str(tmp_path), "--sweep", "train.lr=1e-3,1e-4"]) == 75
    assert "2 of 2 runs are being done by another process" in capfd.readouterr().err


def test_a_diverged_pilot_loses(tmp_path):
    wanted = asked(tmp_path, attentions=["elu"], seeds=[0], overrides=("train.clip=none",))
    (record,), _, complete = run_sweep(wanted, ["train.lr=1e30,1e-9", "model.dropout=0,0.1"])
    assert complete
    assert record.status == "done"
    assert record.tuning["chosen"]["train.lr"] == 1e-9
    assert record.tuning["pilots"] == 4
    assert [v["accuracy"] is None for v in record.tuning["validation_accuracy"]] == [True, True, False, False]
    assert record.protocol == "tiny[train.clip=none,swept: train.lr of 2, model.dropout of 2]"


def test_shards_keep_a_mechanism_and_its_pilots_together(tmp_path):
    cells = plan(asked(tmp_path))
    parts = [part_of_rows(cells, (i, 2)) for i in (1, 2)]
    assert [{(c.row, c.seed) for c in part} for part in parts] == [{("elu", 0), ("elu", 1)},
                                                                  {("softmax", 0), ("softmax", 1)}]  # fmt: skip


def test_a_swept_list_can_be_recorded():
    tuning = {"values": {"model.stages": [(1, 1), (2, 2)]}, "chosen": {"model.stages": (2, 2)}}
    tuning["validation_accuracy"] = [{"model.stages": (1, 1), "accuracy": 0.5}]
    assert not faults(make("pola", 0.4, tuning=tuning))


def test_products_and_mistakes(tmp_path):
    assert read_choices(["train.lr=1,2", "model.dim=3,4"], ()) == [
        ("train.lr=1", "model.dim=3"), ("train.lr=1", "model.dim=4"),
        ("train.lr=2", "model.dim=3"), ("train.lr=2", "model.dim=4"),
    ]  # fmt: skip
    assert read_choices(["model.stages=[1,2],[2,1]"], ()) == [("model.stages=[1,2]",), ("model.stages=[2,1]",)]
    for wrong in ("train.lr", "train.lr=1", "lr=1,2", "train.lr=1,,2"):
        with pytest.raises(ConfigError, match=r"--sweep takes section\.key=value,value"):
            read_choices([wrong], ())
    with pytest.raises(ConfigError, match=r"--sweep train\.lr=1,2,1: 1 is given twice"):
        read_choices(["train.lr=1,2,1"], ())
    assert in_words({"chosen": {"train.lr": 1}, "validation_accuracy": [{"accuracy": 0.5}, {"accuracy": None}]}) == (
        "train.lr=1 (validation 50.0 %)"
    )
    assert in_words({"chosen": {"train.lr": 1}, "validation_accuracy": [{"accuracy": 0.5}] * 2}) == (
        "train.lr=1 (validation 50.0 %, the first of 2 that are equal)"
    )
    assert "all pilots diverged" in in_words({"chosen": {"a.b": 1}, "validation_accuracy": [{"accuracy": None}]})
    with pytest.raises(ConfigError, match=r"train\.lr is given twice"):
        read_choices(["train.lr=1,2"], ("train.lr=3",))
    with pytest.raises(ConfigError, match="would change the task itself"):
        read_choices(["data.max_length=1,2"], ())
    with pytest.raises(ConfigError, match=r"train\.gear is not chosen by validation"):
        read_choices(["train.gear=eager,compiled"], ())
    with pytest.raises(ConfigError, match="sweep without --match-params"):
        run_sweep(asked(tmp_path, match_params=True), list(VALUES))
    with pytest.raises(ConfigError, match=r"did you mean 'train\.lr'"):
        run_sweep(asked(tmp_path), ["train.lrr=1,2"])
    assert not list(tmp_path.iterdir())


def test_a_sweep_over_steps_cuts_the_warm_up(tmp_path):
    runs = [plan(asked(tmp_path, protocol="standard", attentions=["elu"], seeds=[0], overrides=choice))[0]
            for choice in read_choices(["train.steps=40,2000"], ())]  # fmt: skip
    assert [(run.config.train.steps, run.config.train.warmup) for run in runs] == [(40, 2), (2000, 1000)]


def test_older_records_have_no_tuning(swept, tmp_path):
    old = json.loads(next(swept.glob("*.json")).read_text()) | {"schema_version": 1}
    old.pop("digest")
    del old["tuning"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    assert load(tmp_path / "old.json").tuning == {}
