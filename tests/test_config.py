"""Protocols, overrides, and a message for every mistake in them."""

from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path

import pytest

from lra.config import protocol
from lra.config.resolve import as_dict, config_hash, from_dict, label_of
from lra.config.resolve import resolve as resolve_config
from lra.errors import ConfigError
from lra.experiments.backbone import find_backbone, owners
from lra.experiments.data import resolve_for
from lra.experiments.plan import Request
from tasks.listops.task import Settings


def resolve(protocol: object = "standard", *overrides: str):
    return resolve_config(str(protocol), "listops", list(overrides), Settings, None, find_backbone, owners())


TRAIN = {"steps": 100, "batch": 8, "lr": 1e-3, "warmup": 10}


def test_standard_is_what_the_table_of_skyformer_says():
    config = resolve()
    assert (config.model.layers, config.model.dim, config.model.heads, config.model.mlp) == (2, 64, 2, 128)
    train = config.train
    assert (train.steps, train.batch, train.lr, train.warmup, train.evaluate_every) == (20_000, 32, 1e-4, 1000, 500)
    assert (train.beta1, train.beta2, train.eps, train.weight_decay) == (0.9, 0.999, 1e-6, 0.0)
    assert (train.clip, train.clip_at, config.model.dropout, config.model.attention_dropout) == ("norm", 1.0, 0.1, 0.0)
    assert config.data == Settings()


def test_skyformer_inherits_nystromformer():
    train, model = resolve("skyformer").train, resolve("skyformer").model
    assert (train.steps, train.clip, train.select_after, train.cycle_beta1) == (50_000, "value", 0.2, True)
    assert (model.vocab, model.length, model.pool_over_padding, model.attention_dropout) == (32, 2048, True, 0.1)
    assert resolve("skyformer").data == Settings(brackets=False, validation_rows=2000, test_rows=2000)
    assert resolve("nystromformer").train.clip == "none"


@pytest.mark.parametrize("name", ["google", "nystromformer", "skyformer"])
def test_historic_protocols_read_lras_own_pairs(name):
    assert resolve_for("retrieval", name, []).data.retrieval_pairs == "official"


@pytest.mark.parametrize("name", protocol.protocols())
def test_every_protocol_resolves_and_names_no_attention(name):
    import attention_zoo

    resolve(name)
    text = (protocol.PROTOCOLS / f"{name}.yaml").read_text()
    assert text.startswith("# "), "the first comment names the source"
    keys, left = set(), [protocol.plain_yaml(text)]
    while left:
        section = left.pop()
        keys |= set(section)
        left += [value for value in section.values() if isinstance(value, dict)]
    assert {"model", "train"} & keys
    assert not keys & set(attention_zoo.names())


def test_overrides_and_round_trip():
    config = resolve("standard", "train.lr=3e-4", "model.layers=4", "data.brackets=false", "train.clip=none")
    assert (config.train.lr, config.model.layers, config.data.brackets, config.train.clip) == (3e-4, 4, False, "none")
    assert from_dict(as_dict(config), Settings, find_backbone("flat").keys) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.learning_rate=1", "unknown key train.learning_rate"),
        ("train.stepss=1", r"unknown key train\.stepss, did you mean 'train\.steps'\?"),
        ("modle.layers=1", r"unknown key 'modle', did you mean 'model'\?"),
        ("model.layers=abc", r"model\.layers must be a whole number, not abc"),
        ("model.layers=2.5", r"model\.layers must be a whole number, not 2\.5"),
        ("train.lr=fast", r"train\.lr must be a number, as in 3e-4, not fast"),
        ("train.clip=norms", r"train\.clip must be one of norm, value, none, not norms"),
        ("train.clip_at=[1]", r"train\.clip_at must be a number"),
        ("data.brackets=maybe", r"data\.brackets must be true or false, not maybe"),
        ("train.steps=0", r"train\.steps must be at least 1"),
        ("train.warmup=30000", r"train\.warmup=30000 must not exceed train\.steps=20000: set both"),
        ("train.warmup=-1", r"train\.warmup must be at least 0"),
        ("train.lr=1e400", r"train\.lr must be at least 0 and finite, not inf"),
        ("train.lr=-1", r"train\.lr must be at least 0"),
        ("model.heads=0", r"model\.heads must be at least 1"),
        ("model.dropout=2", r"model\.dropout must be 0 to below 1, not 2"),
        ("train.beta1=1", r"train\.beta1 must be 0 to below 1, not 1"),
        ("train.clip_at=0", r"train\.clip=none leaves them as they are"),
        ("model.backbone=pyramide", r"unknown backbone 'pyramide', did you mean 'pyramid'\?"),
        ("model.backbone=./none.py", r"no backbone file at none\.py"),
        ("model.stages=[1,1]", r"model\.stages is a key of the backbone pyramid: --backbone pyramid"),
        ("model.norm=middle", r"model\.norm must be one of pre, post, not middle"),
        ("train=5", "expected keys and values, found 5"),
        ("train.lr", "takes section.key=value"),
        ("=5", "takes section.key=value"),
    ],
)
def test_bad_override(override, message):
    with pytest.raises(ConfigError, match=message) as caught:
        resolve("standard", override)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: standrad", r"unknown protocol 'standrad', did you mean 'standard'\?"),
        ("base: mine.yaml", "leads back to itself"),
        ("bse: standard", r"unknown key 'bse', did you mean 'base'\?"),
        ("- a list", "has no keys and values"),
        ("{", "protocol file"),
        ("base: standard\ntrain: {clip_at: [1]}", r"train\.clip_at must be a number"),
        ("tasks: 5", "tasks: expected keys and values, found 5"),
        ("tasks: {text: {}}", "has no section for task 'listops'; it has: text; a line `base: standard` adds"),
        ("tasks: {listops: {train: {steps: 5}}}", "missing"),
        ("base: standard\ntasks: {listops: 3}", r"tasks\.listops: expected keys and values, found 3"),
        ("base: standard\ntasks: {listops: {data: 3}}", r"tasks\.listops\.data: expected keys and values, found 3"),
        ("base: standard\ntrain: {steps: 0100}", "line 2: 0100 is not accepted as a number"),
        ("base: standard\ntrain: {steps: 1:30}", "line 2: 1:30 is not accepted as a number"),
        ("train: {lr: 1}\nmodel: {dim: 8}\ntrain: {lr: 2}", r"mine\.yaml: line 3: 'train' is already set in line 1"),
        (
            "base: standard\ntasks:\n  listops:\n    train:\n      lr: 1\n      lr: 2",
            "line 6: 'lr' is already set in line 5",
        ),
    ],
)
def test_bad_file(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        resolve(path)
    assert "\n" not in str(caught.value)


def test_a_key_that_is_set_twice_within_an_override():
    with pytest.raises(ConfigError, match="expected keys and values"):
        resolve("standard", "train={lr: 1, lr: 2}")


def test_anchors_and_merge_keys_are_no_repetition(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "base: standard\ntasks:\n  listops: &one\n    train: &train {lr: 1e-3}\n"
        "  text: *one\n  image:\n    train: {<<: *train, lr: 2e-3}\n"
    )
    assert resolve(path).train.lr == 1e-3


def test_a_protocols_warm_up_is_cut_to_its_share_of_fewer_steps():
    """Standard ListOps has 20,000 steps, 1,000 of them warm-up."""
    plain, cut = resolve(), resolve("standard", "train.steps=30")
    assert (cut.train.steps, cut.train.warmup) == (30, 2)
    assert label_of("standard", cut, plain) == "standard[train.steps=30]"
    assert config_hash(cut) == config_hash(resolve("standard", "train.steps=30", "train.warmup=2"))
    assert resolve("standard", "train={steps: 999}").train.warmup == 50
    assert resolve("standard", "train.steps=1").train.warmup == 1
    longer = resolve("standard", "train.steps=5000")
    assert longer.train.warmup == 1000, "a warm-up that fits stays"
    assert label_of("standard", longer, plain) == "standard[train.steps=5000]"
    by_hand = resolve("standard", "train.steps=5000", "train.warmup=250")
    assert label_of("standard", by_hand, plain) == "standard[train.steps=5000,train.warmup=250]"
    assert resolve("google", "train.steps=30").train.warmup == 1000, "rsqrt may end inside its warm-up"


def test_a_label_hides_the_gear_and_no_other_key_of_its_name():
    """A user's task may have a data option with the name of a training setting."""
    plain = resolve()
    settings = make_dataclass("Own", [("gear", str, "low")], bases=(type(plain.data),), frozen=True)
    own = replace(plain, data=settings(**vars(plain.data)))
    other = replace(own, data=replace(own.data, gear="high"), train=replace(own.train, gear="eager"))
    assert label_of("standard", other, own) == "standard[data.gear=high]"


def test_a_warm_up_that_is_set_by_hand_is_never_cut():
    for overrides in (("train.steps=30", "train.warmup=31"), ("train.warmup=30000",)):
        with pytest.raises(ConfigError, match="must not exceed"):
            resolve("standard", *overrides)


def test_a_plan_says_once_that_it_cuts_a_warm_up(capsys):
    from lra.experiments.plan import Request, plan

    for _ in range(2):
        (run,) = plan(Request(attentions=["elu"], tasks=["listops"], seeds=[0], overrides=("train.steps=37",)))
    assert (run.config.train.warmup, run.protocol) == (2, "standard[train.steps=37]")
    said = capsys.readouterr().err
    assert said.startswith("listops: the warm-up is cut to 2 of 37 steps, its share in the protocol (1000 of 20000);")
    assert said.count("\n") == 1


def test_a_run_that_ends_inside_its_warm_up_has_no_cut_one(capsys):
    """As in Google's Retrieval. A changed warm-up changes the label."""
    from lra.experiments.plan import Request, plan

    asked = Request(attentions=["elu"], tasks=["retrieval", "listops"], seeds=[0], protocol="google")
    retrieval, _ = plan(asked)
    assert retrieval.config.train.warmup > retrieval.config.train.steps
    labels = [
        plan(replace(asked, overrides=("train.steps=500", *more)))[1].protocol for more in ((), ("train.warmup=100",))
    ]
    assert labels == ["google[train.steps=500]", "google[train.steps=500,train.warmup=100]"]
    assert "the warm-up is cut" not in capsys.readouterr().err


def test_a_protocol_that_leads_back_by_another_path(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"base: ../{tmp_path.name}/mine.yaml")
    with pytest.raises(ConfigError, match="leads back to itself"):
        resolve(path)


def test_values_that_cannot_be_written_are_one_line():
    with pytest.raises(ConfigError, match=r"^[^\n]*Exceeds the limit[^\n]*$"):
        resolve("standard", "train.steps=0x" + "f" * 4000)


def test_only_what_cannot_change_is_shared():
    """Configurations are cached, except those with a user's settings, which a task could change."""

    @dataclass
    class Loose:
        words: list[str] = field(default_factory=list)

    def resolved(kind: type):
        return resolve_config("standard", "mine", [], kind, {"train": TRAIN}, find_backbone, owners())

    assert resolved(Settings) is resolved(Settings)
    assert resolved(Loose) == resolved(Loose)
    assert resolved(Loose).data is not resolved(Loose).data


def test_missing_file_and_name():
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        resolve("nowhere.yaml")
    with pytest.raises(ConfigError, match=r"unknown protocol 'standart', did you mean 'standard'\?"):
        resolve("standart")


def test_own_file_inherits(tmp_path):
    path: Path = tmp_path / "mine.yaml"
    path.write_text("base: standard\nmodel: {dim: 128}\ntasks: {listops: {train: {lr: 1e-3}}}\n")
    config = resolve(path)
    assert (config.model.dim, config.train.lr, config.train.steps) == (128, 1e-3, 20_000)


def test_what_a_file_says_of_all_tasks_goes_before_its_base(tmp_path):
    """A value for all tasks overrides the base's for one task; the file's value for one task overrides both."""
    path: Path = tmp_path / "mine.yaml"
    path.write_text("base: quick\ntrain: {steps: 500, batch: 4}\ntasks: {listops: {train: {batch: 8}}}\n")
    assert resolve("quick").train.steps != 500
    assert (resolve(path).train.steps, resolve(path).train.batch) == (500, 8)
    (tmp_path / "wrong.yaml").write_text("base: quick\ntasks: {listops: 3}\n")
    path.write_text("base: wrong.yaml\ntrain: {steps: 500}\n")
    with pytest.raises(ConfigError, match="expected keys and values, found 3"):
        resolve(path)


def test_hash_sees_changes_and_not_new_defaults():
    from dataclasses import dataclass, replace

    config = resolve()
    assert config_hash(config) == config_hash(resolve("standard", "train.clip=norm"))
    assert config_hash(config) != config_hash(resolve("standard", "train.clip=none"))
    assert config_hash(config) != config_hash(resolve("standard", "data.seed=1"))

    @dataclass(frozen=True, kw_only=True)
    class Later(type(config.model)):
        new_quirk: bool = False

    later = Later(**as_dict(config)["model"])
    assert config_hash(replace(config, model=later)) == config_hash(config)


def test_deviations_of_a_protocol(tmp_path):
    google = protocol.deviations_of("google")
    assert list(google)[:2] == ["sizes", "ListOps of Table 1"]
    assert "transformer's configuration" in google["sizes"]
    assert {"initialisation", "Pathfinder pooling", "Retrieval head"} <= set(google)
    assert protocol.deviations_of("standard") == {}
    assert {"warm start", "precision", "attention dropout"} <= set(protocol.deviations_of("skyformer")), (
        "with those of its base"
    )
    (tmp_path / "mine.yaml").write_text("base: standard\ndeviations: [sizes]\n")
    with pytest.raises(ConfigError, match="expected words and their explanations"):
        protocol.deviations_of(str(tmp_path / "mine.yaml"))


def test_deviations_are_in_the_cell_and_leave_its_identity_alone(tmp_path):
    from lra.experiments.plan import Request, plan

    (tmp_path / "mine.yaml").write_text("base: quick\ndeviations: {sizes: 'smaller\n  here'}\n")
    cells = [plan(Request(attentions=["relu"], tasks=["listops"], seeds=[0], protocol=name))[0]
             for name in ("quick", str(tmp_path / "mine.yaml"))]  # fmt: skip
    assert [cell.deviations for cell in cells] == [{}, {"sizes": "smaller here"}]
    assert cells[0].identity("0") == cells[1].identity("0")


def test_an_empty_section_is_none(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("base: quick\nmodel:\ntrain:\ntasks:\n  listops:\n    train:\n")
    assert resolve(path) == resolve("quick")
    path.write_text("base: quick\ntasks:\n")
    assert resolve(path) == resolve("quick")


@pytest.mark.parametrize("value", ["0100", "1:30", "-010", "[010,1]"])
def test_numbers_that_yaml_reads_otherwise_than_people(value):
    with pytest.raises(ConfigError, match="is not accepted as a number"):
        resolve("standard", f"train.steps={value}")


def test_a_misspelt_task_section_is_named(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("base: quick\ntasks: {listopps: {train: {lr: 1e-3}}, my_own: {train: {lr: 1e-3}}}\n")
    resolve_for("listops", str(path), [])
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "its section tasks.listopps is not used, because there is no such task, did you mean 'listops'?" in lines[0]


def test_an_unknown_engine_is_refused():
    with pytest.raises(ConfigError, match="unknown engine 'rey', did you mean 'ray'"):
        Request(attentions=["mean"], tasks=["listops"], seeds=[0], engine="rey")
