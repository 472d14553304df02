"""Pretraining: what is masked and predicted, gears, kills, sharing; and that no test input is read."""

import contextlib
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import asking
import numpy as np
import pytest
import torch
from asking import run_grid, stop_at
from computed import computed
from steps import CPU, gradient
from torch.testing import assert_close

import tasks
from lra.backbones.denoiser import Denoiser
from lra.config.resolve import config_hash
from lra.config.schema import Train
from lra.errors import ConfigError
from lra.experiments import pretrain
from lra.experiments.blind import blind_scores
from lra.experiments.build import make_denoiser, make_model, padding_of
from lra.experiments.data import TaskData, load_task_data
from lra.experiments.job import open_job
from lra.experiments.load import config_of
from lra.experiments.plan import Request, plan
from lra.experiments.status import read_statuses
from lra.experiments.train_and_test import train_and_test
from lra.results.record import load
from lra.training import gearbox
from lra.training.captured import Captured
from lra.training.compiled import Compiled
from lra.training.device import Padding
from lra.training.distributed import Group, alone, check_batches
from lra.training.eager import Eager
from lra.training.optimiser import FlatAdamW
from lra.training.process import seed_everything
from lra.training.run_folder import RunFolder
from lra.training.turns import Turns

SHORT = ("train.pretrain=masked", "train.pretrain_steps=20", "train.pretrain_lr=3e-3", "train.pretrain_batch=8",
         "train.pretrain_warmup=2")  # fmt: skip
SPEC = tasks.Spec(vocab=16, classes=10, length=40)


def asked(out: Path, *overrides: str, **changes: Any) -> Request:
    return asking.asked(out, overrides=(*SHORT, *overrides), **changes)


def run_of(*overrides: str, **changes: Any):
    return plan(asked(Path("unused"), *overrides, **changes))[0]


def encoders(out: Path) -> list[Path]:
    return sorted((out / "work").glob("pretrained-*"))


def some_ids(rows: int = 6, length: int = 40):
    ids = torch.randint(1, 16, (rows, length), generator=torch.Generator().manual_seed(0))
    keep = torch.arange(length) < torch.tensor([length, 1, 2, 9, 23, 31])[:rows, None]
    return torch.where(keep, ids, 0), keep


def test_what_is_masked():
    """A share of the real tokens is masked, at least one, and no padding."""
    denoiser = make_denoiser(run_of("train.pretrain_share=0.25"), SPEC)
    ids, keep = some_ids()
    masked = torch.stack([denoiser.draw(ids, keep) for _ in range(400)])
    assert not (masked & ~keep).any()
    assert (masked.sum(2) >= 1).all()
    assert abs(float(masked[:, 0].float().mean()) - 0.25) < 0.02
    assert (masked.any(0) == keep).all(), "every real token now and then"
    assert denoiser.draw(ids, None).any(1).all()


class Fixed(Denoiser):
    """Masks every third token, whatever the shape."""

    def draw(self, ids, keep):
        masked = torch.arange(ids.shape[1], device=ids.device) % 3 == 0
        return masked.expand(ids.shape) if keep is None else masked & keep


def fixed(run, spec=SPEC) -> Fixed:
    denoiser = make_denoiser(run, spec)
    denoiser.__class__ = Fixed
    return denoiser  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_a_masked_token_is_not_seen(pool):
    """The masked token changes the loss, but no logit; the loss is the mean cross-entropy of a row's masked tokens."""
    denoiser = fixed(run_of(f"model.pool={pool}", "model.dropout=0.0", attentions=["softmax"]))
    seen: list[torch.Tensor] = []
    denoiser.own.predict.register_forward_hook(lambda *args: seen.append(args[-1].detach()))
    ids, keep = some_ids()
    other = torch.where(denoiser.draw(ids, keep), ids % 15 + 1, ids)
    losses = [denoiser(x, keep) for x in (ids, other)]
    assert_close(seen[0][keep], seen[1][keep], rtol=0, atol=0)
    assert not torch.equal(losses[0], losses[1])
    row, places = 4, torch.arange(0, 23, 3)
    expected = torch.nn.functional.cross_entropy(seen[0][row, places], ids[row, places])
    assert_close(losses[0][row].detach(), expected)


def test_a_pair_is_the_mean_of_its_documents():
    pair = replace(SPEC, pair=True)
    denoiser = fixed(run_of("model.dropout=0.0"), pair)
    ids, keep = some_ids()
    assert_close(denoiser(ids.unflatten(0, (3, 2)), keep.unflatten(0, (3, 2))), denoiser(ids, keep).view(3, 2).mean(1))


def test_the_encoder_starts_as_the_classifier():
    run = run_of()
    plain, denoiser = make_model(run, SPEC).state_dict(), make_denoiser(run, SPEC)
    encoder = denoiser.encoder.state_dict()
    assert {name for name in plain if name not in encoder} == {name for name in plain if name.startswith("head.")}
    assert all(torch.equal(plain[name], tensor) for name, tensor in encoder.items())
    assert not any("head" in name for name, _ in denoiser.named_parameters())


def test_gears_agree(monkeypatch):
    """Compiled once for every shape, with the masks and dropout of the eager gear; captured, with fixed masks."""
    monkeypatch.setattr("lra.training.loading.RESIDENT", ("cpu",))
    run = run_of("model.dropout=0.1", "model.layers=1", attentions=["pola"])
    data, rows, graphs = load_task_data("listops", run.config, None).data, np.arange(30), []
    padding = padding_of(run, data.spec)
    denoiser = make_denoiser(run, data.spec)
    torch.compiler.reset()
    gear = Compiled(denoiser, CPU, padding, backend=lambda module, _: (graphs.append(module), module.forward)[1])
    for part in (rows, rows[:7], rows[5:]):
        eager = gradient(Eager(denoiser, CPU, padding), denoiser, data.train, part)
        assert_close(gradient(gear, denoiser, data.train, part), eager)
    assert len(graphs) == 1
    losses = [
        g.evaluate(data.validation, rows, reseed=seed_everything)[1] for g in (gear, Eager(denoiser, CPU, padding))
    ]
    assert_close(*losses)
    assert len(graphs) == 2, "one more for evaluation"

    monkeypatch.setattr("lra.training.compiled.torch.compile", lambda model, **_: model)
    denoiser = fixed(run_of("model.dropout=0.0", "model.layers=1", attentions=["pola"]), data.spec)
    eager = gradient(Eager(denoiser, CPU, padding), denoiser, data.train, rows)
    optimiser = FlatAdamW(list(denoiser.parameters()), Train(steps=9, batch=30, lr=0.0, warmup=0, evaluate_every=1))
    captured = Captured(
        denoiser,
        CPU,
        padding,
        optimiser=optimiser,
        batch=30,
        recorder=lambda function, touched: function,  # noqa: ARG005
    )
    assert captured.rows * 4 > 30, "the last micro-batch has rows without a label"
    captured.gradients(data.train, rows, Turns(alone(CPU.torch_device), optimiser.flat), seed_everything)
    assert_close(optimiser.flat, eager, rtol=1e-5, atol=1e-6)


def test_blind_scores_by_hand():
    """Two positions; a value that the training split does not know, and one row that is shorter."""
    values = np.array([[1, 5], [1, 6], [2, 5], [1, 0]], np.uint8)
    lengths, labels = np.array([2, 2, 2, 1], np.int32), np.zeros(4, np.int64)
    train = tasks.Split(values, lengths, labels)
    validation = tasks.Split(np.array([[1, 6], [2, 0]], np.uint8), np.array([2, 1], np.int32), labels[:2])
    scores = blind_scores(train, validation, np.arange(2), Padding(length=2), seed=0)
    first = [(3 + 1) / (4 + 4), (1 + 1) / (4 + 4)]  # of 1 and 2, where 1, 2, 5, 6 occur
    expected = ((-np.log(first[0]) - np.log((1 + 1) / (3 + 4))) / 2 - np.log(first[1])) / 2
    assert scores["loss"] == pytest.approx(expected)
    total = 7 + 4  # 1 three times, 2 once, 5 twice, 6 once
    assert scores["loss_anywhere"] == pytest.approx(
        ((-np.log(4 / total) - np.log(2 / total)) / 2 - np.log(2 / total)) / 2
    )
    assert scores["accuracy"] == pytest.approx((0.5 + 0) / 2)


def test_the_loss_falls_below_that_of_positions(tmp_path):
    overrides = ("train.pretrain_steps=600", "train.pretrain_share=0.3", "train.pretrain_lr=5e-3", "train.steps=10",
                 "train.warmup=2", "train.pretrain_warmup=60", "model.dropout=0.0", "data.train_rows=3000")  # fmt: skip
    (record,) = run_grid(asked(tmp_path, *overrides, attentions=["softmax"]))
    losses = [point["validation_loss"] for point in record.pretraining["curve"]]
    assert len(losses) == 10
    blind = record.pretraining["blind"]
    assert losses[-1] < blind["loss"] - 0.03 < losses[0]
    assert blind["loss"] < blind["loss_anywhere"]
    assert record.pretraining["seconds"]["train"] > 0 < record.pretraining["tokens"]
    assert load(next(tmp_path.glob("*.json"))) == record
    assert "train.pretrain=masked" in record.protocol


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    (record,) = run_grid(asked(tmp_path_factory.mktemp("calm")))
    return record


@pytest.mark.parametrize(
    ("phase", "step"), [("pretraining", 1), ("pretraining", 7), ("pretraining", 20), ("", 1), ("", 45)]
)
def test_killed_and_resumed(tmp_path, calm, phase, step):
    with pytest.raises(KeyboardInterrupt):
        run_grid(asked(tmp_path, observe=stop_at(step, phase)))
    steps = Counter()
    (record,) = run_grid(asked(tmp_path, observe=lambda progress: steps.update([progress.phase])))
    assert record.status == "done"
    assert computed(record) == computed(calm)
    assert record.pretraining["by"] == calm.pretraining["by"] == record.identity
    assert record.pretraining["shared"] is False
    assert (steps["pretraining"] > 0) == (phase == "pretraining" and step < 20)
    (folder,) = encoders(tmp_path)
    assert not (folder / "resume.pt").exists()
    assert [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()][-1] == 20


def test_status_shows_the_runs_own_pretraining(tmp_path):
    """Another run of the same mechanism and seed has no pretraining and shows none."""
    with pytest.raises(KeyboardInterrupt):
        run_grid(asked(tmp_path, observe=stop_at(20, "pretraining")))
    (folder,) = encoders(tmp_path)
    (folder / "pretraining.json").unlink(missing_ok=True)
    plain = open_job(run_of("train.pretrain=none"), "0" * 12, tmp_path)
    plain.announce()
    phases = {found.protocol: (found.phase, found.step) for found in read_statuses(tmp_path)[0]}
    assert phases.pop(plain.run.protocol) == ("", 0)
    assert [*phases.values()] == [("pretraining", 20)]


def test_rates_share_one_pretraining(tmp_path, calm):
    steps = Counter()
    watching = asked(tmp_path, observe=lambda progress: steps.update([progress.phase]))
    (first,) = run_grid(watching)
    later = ("train.lr=5e-3", "train.batch=16", "train.steps=40", "train.select=last", "model.head=8")
    (second,) = run_grid(replace(watching, overrides=(*watching.overrides, *later)))
    assert steps == {"pretraining": 20, "": 60 + 40}
    assert (first.pretraining["shared"], second.pretraining["shared"]) == (False, True)
    assert second.pretraining["by"] == first.identity != second.identity
    assert computed(first) == computed(calm)
    for other in ("train.pretrain_lr=1e-3", "train.pretrain_share=0.2", "train.weight_decay=0.1", "model.mlp=16"):
        run = plan(replace(watching, overrides=(*watching.overrides, other)))[0]
        before = replace(run, config=replace(run.config, train=run.config.train.of_pretraining()))
        assert pretrain.identity_of_pretraining(before, first.data["hash"]) != first.pretraining["identity"], other


def test_what_zero_stands_for_is_in_the_identity():
    """A value of 0 takes the training's value; a value that is set does not depend on the training."""
    base = run_of().config.train
    assert base.of_pretraining() == replace(base, lr=1.0, steps=999).of_pretraining()
    unset = replace(base, pretrain_steps=0, pretrain_lr=0.0, pretrain_batch=0, pretrain_warmup=0)
    resolved = unset.of_pretraining()
    assert (resolved.steps, resolved.lr, resolved.batch, resolved.warmup) == (60, 1e-3, 8, 10)
    assert replace(unset, lr=1.0).of_pretraining() != resolved
    assert replace(unset, pretrain_steps=120).of_pretraining().warmup == 20


class Poison:
    def __getattr__(self, name: str):
        raise AssertionError(f"the test split is read: {name}")


def encoder_of(data: tasks.Data, out: Path) -> bytes:
    """The bytes of the pretrained encoder; the run is stopped after the first step of its training."""
    run = run_of()
    with pytest.raises(KeyboardInterrupt):
        train_and_test(
            run,
            TaskData(data, {}),
            RunFolder(folder_in(out)),
            alone(CPU.torch_device),
            lambda p: stop_at(1)(p) or False,
        )
    (folder,) = out.glob("work/pretrained-*")
    return (folder / "encoder.safetensors").read_bytes()


def folder_in(out: Path) -> Path:
    folder = out / "work" / "run"
    folder.mkdir(parents=True)
    return folder


def test_neither_test_inputs_nor_labels_are_seen(tmp_path):
    """Reading the test split raises; training labels and validation inputs change no bit of the encoder."""
    data = load_task_data("listops", run_of().config, None).data
    poisoned: Any = Poison()
    plain = encoder_of(replace(data, test=poisoned), tmp_path / "poisoned")
    shuffled = replace(data.train, labels=data.train.labels[::-1].copy())
    zeros = replace(data.validation, values=np.zeros_like(data.validation.values))
    assert encoder_of(replace(data, train=shuffled, validation=zeros, test=poisoned), tmp_path / "other") == plain
    changed = replace(data.train, values=data.train.values[::-1].copy(), lengths=data.train.lengths[::-1].copy())
    assert encoder_of(replace(data, train=changed, test=poisoned), tmp_path / "changed") != plain


def test_the_head_is_not_handed_on(tmp_path):
    from safetensors.torch import load_file

    with pytest.raises(KeyboardInterrupt):
        run_grid(asked(tmp_path, observe=stop_at(20)))
    (folder,) = encoders(tmp_path)
    weights, run = load_file(folder / "encoder.safetensors"), run_of()
    fresh = make_model(run, load_task_data("listops", run.config, None).data.spec).state_dict()
    assert set(fresh) - set(weights) == {"head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias"}
    assert not torch.equal(weights["tokens.weight"], fresh["tokens.weight"])
    (record,) = run_grid(asked(tmp_path, "train.lr=0", "train.steps=1", "train.warmup=0"))
    last = load_file(tmp_path / "work" / record.name / "last.safetensors")
    assert record.pretraining["shared"]
    assert all(torch.equal(last[name], start) for name, start in (fresh | weights).items()), (
        "the training begins with it"
    )


@pytest.mark.usefixtures("quick_workers")
def test_two_processes_are_one(tmp_path):
    many = ("train.steps=6", "train.warmup=2", "train.evaluate_every=3", "train.batch=128", "train.pretrain_batch=128",
            "train.pretrain_steps=6", "data.max_length=60", "data.validation_rows=500")  # fmt: skip
    one, two = (run_grid(asked(tmp_path / str(n), *many, processes=n, jobs=1))[0] for n in (1, 2))
    assert (one.environment["processes"], two.environment["processes"]) == (1, 2)
    assert computed(one) == computed(two)


def test_it_waits_for_a_pretraining_in_another_process(tmp_path, calm, monkeypatch, capfd):
    monkeypatch.setattr(pretrain, "WAIT", 0.01)
    run_grid(asked(tmp_path / "first"))
    (made,) = encoders(tmp_path / "first")
    there = tmp_path / "second" / "work" / made.name
    there.mkdir(parents=True)
    with contextlib.ExitStack() as other:
        other.enter_context(RunFolder(there).lock())

        def end(progress):
            if progress.activity:
                shutil.copytree(made, there, dirs_exist_ok=True, ignore=shutil.ignore_patterns("lock"))
                other.close()

        (record,) = run_grid(asked(tmp_path / "second", observe=end))
    assert computed(record) == computed(calm)
    assert record.pretraining["by"] == calm.pretraining["by"]
    assert "waits for its pretraining, which another process is doing" in capfd.readouterr().err


class Stub:
    """In place of the compiler's process, done at once. made: whether each was started for a pretraining."""

    made: ClassVar[list[bool]] = []
    busy, activity, refused = False, "", ""

    def __init__(self, run, _, train, pretraining=False):
        assert (run.config.train.steps, len(train.labels)) == (20 if pretraining else 60, 300)
        self.made.append(pretraining)

    def __enter__(self):
        return self

    def __exit__(self, *_: Any):
        pass


def test_both_phases_shift_to_the_compiled_gear(tmp_path, monkeypatch):
    """Each phase shifts after its own number of tokens."""
    monkeypatch.setattr(gearbox, "EARNED_TOKENS", 1)
    monkeypatch.setattr(gearbox, "SHIFT_TOKENS", 10 * 8 * 30)
    monkeypatch.setattr("lra.training.compiled.torch.compile", lambda model, **_: model)
    monkeypatch.setattr("lra.experiments.background_compiler.BackgroundCompiler", Stub)
    monkeypatch.setattr("lra.experiments.pretrain.BackgroundCompiler", Stub)
    (record,) = run_grid(asked(tmp_path))
    assert Stub.made == [True, False]
    assert record.environment["gear"] == record.pretraining["gear"] == "compiled"


@pytest.mark.slow
def test_the_real_compiler_knows_the_denoiser(tmp_path, monkeypatch):
    """The run finds the compiler's code in the cache."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(gearbox, "EARNED_TOKENS", 1)
    monkeypatch.setattr(gearbox, "SHIFT_TOKENS", 10 * 8 * 30)
    torch._dynamo.utils.counters.clear()
    (record,) = run_grid(asked(tmp_path, attentions=["pola"]))
    assert record.environment["gear"] == record.pretraining["gear"] == "compiled"
    assert torch._dynamo.utils.counters["inductor"]["fxgraph_cache_miss"] == 0


def test_damage_is_named(tmp_path):
    run_grid(asked(tmp_path))
    (folder,) = encoders(tmp_path)
    weights = bytearray((folder / "encoder.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "encoder.safetensors").write_bytes(weights)
    (record,) = run_grid(asked(tmp_path, "train.lr=5e-3"))
    assert record.status == "failed"
    assert "is damaged; delete it to pretrain again" in record.reason


def test_a_pretraining_that_diverges_ends_the_run(tmp_path):
    overrides = ("train.pretrain_lr=1e30", "train.clip=none", "train.eps=1e-30")
    (record,) = run_grid(asked(tmp_path, *overrides))
    assert record.status == "diverged"
    assert record.reason.startswith("pretraining: ")
    (again,) = run_grid(asked(tmp_path, *overrides, "train.lr=5e-3"))
    assert (again.status, again.reason) == ("diverged", record.reason)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.pretrain=yes", r"train\.pretrain must be one of none, masked"),
        ("train.pretrain_share=0", r"train\.pretrain_share=0 would mask nothing"),
        ("train.pretrain_share=1", r"train\.pretrain_share must be 0 to below 1"),
        ("train.pretrain_steps=-1", r"train\.pretrain_steps must be at least 0"),
        ("train.pretrain_warmup=21", r"train\.pretrain_warmup=21 must not exceed the 20 steps of the pretraining"),
    ],
)
def test_mistakes(override, message):
    with pytest.raises(ConfigError, match=message) as caught:
        run_of(override)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_pretrained(tmp_path, monkeypatch):
    monkeypatch.setattr("lra.backbones.flat.Encoder.merged", 4)
    with pytest.raises(ConfigError, match=r"merges tokens.*; set train\.pretrain=none"):
        run_grid(asked(tmp_path))
    pair = Group(0, 2, torch.device("meta"))
    with pytest.raises(ConfigError, match=r"train\.pretrain_batch=7 cannot be shared by 2"):
        check_batches(pair, [("listops", 7)], "train.pretrain_batch")


def test_old_configurations_keep_their_hash():
    records = sorted((Path(__file__).parent.parent / "results" / "records").rglob("listops-*.json"))
    assert records
    for record in map(load, records[:5]):
        assert config_hash(config_of(record)) == record.config_hash
        assert record.pretraining == {}
