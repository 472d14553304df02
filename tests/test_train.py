"""Training: the schedule, micro-batches, equal bits in repeated and in killed runs, the quirks, divergence."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from asking import asked, run_grid, stop_at
from logs import lines_of
from steps import evaluate
from torch import are_deterministic_algorithms_enabled as is_deterministic
from torch.testing import assert_close

import tasks
from lra.config.schema import Train
from lra.experiments.build import make_model
from lra.experiments.data import load_task_data
from lra.experiments.load import load_run
from lra.experiments.plan import plan
from lra.results.machine import trim_heap
from lra.results.record import Record, hits
from lra.training.batches import cut, order, validation_rows
from lra.training.device import Device, Padding
from lra.training.loading import load, release, resident
from lra.training.schedule import learning_rate, momentum
from lra.training.step import Step

CPU = Device(torch.device("cpu"))
PADDING = Padding()


@pytest.fixture(scope="module")
def cell_and_data(cache):
    (cell,) = plan(asked(cache / "unused"))
    return cell, load_task_data("listops", cell.config, None).data


def test_schedule_is_onecycle():
    """Both linear phases and the cycling beta1 equal torch's OneCycleLR, as Nystromformer and Skyformer call it."""
    config = Train(
        steps=50, batch=1, lr=1e-2, warmup=10, evaluate_every=1, start_lr=0.04, end_lr=4e-6, cycle_beta1=True
    )
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1e-2, betas=(0.9, 0.999))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1e-2, pct_start=10 / 50, anneal_strategy="linear", total_steps=50
    )
    for step in range(50):
        assert math.isclose(learning_rate(config, step), optimizer.param_groups[0]["lr"], rel_tol=1e-9, abs_tol=1e-15)
        assert math.isclose(momentum(config, step), optimizer.param_groups[0]["betas"][0], rel_tol=1e-9)
        optimizer.step()
        if step < 49:
            schedule.step()


def test_standard_schedule():
    config = Train(steps=100, batch=1, lr=1.0, warmup=11, evaluate_every=1)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == 0.0
    assert rates[10] == 1.0 == max(rates)
    assert rates[-1] == 0.0
    assert momentum(config, 50) == 0.9


def test_order_visits_every_row_once_an_epoch():
    rows = np.concatenate([order(10, 4, 0, step) for step in range(5)])
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert not np.array_equal(rows[:10], rows[10:])
    assert np.array_equal(order(10, 4, 0, 3), rows[12:16])
    assert not np.array_equal(order(10, 10, 1, 0), rows[:10])


def test_validation_quirks():
    config = Train(steps=1, batch=32, lr=1.0, warmup=0, evaluate_every=1)
    assert len(validation_rows(config, 2000, 0, 0)) == 2000
    assert len(validation_rows(replace(config, drop_last=True), 2000, 0, 0)) == 62 * 32
    some = replace(config, drop_last=True, validation_batches=5)
    first, second = (validation_rows(some, 2000, 0, evaluation) for evaluation in (0, 1))
    assert len(first) == len(second) == 160
    assert not np.array_equal(first, second)


def test_cut_covers_all_and_bounds_padding():
    lengths = np.random.default_rng(0).integers(1, 300, 100).astype(np.int32)
    parts = cut(lengths, most=2000, padding=200, least=500)
    assert sorted(np.concatenate(parts)) == list(range(100))
    for part in parts[:-1]:
        size = len(part) * lengths[part].max()
        assert len(part) == 2 or (size <= 2000 and size - lengths[part].sum() <= 200)
    assert [len(part) for part in cut(np.full(5, 9), 1, 0, 1)] == [2, 3]
    assert [len(part) for part in cut(np.full(1, 9), 1, 0, 1)] == [1]


def test_micro_batches_become_smaller_towards_the_end():
    """So that processes which share the micro-batches finish at about the same time."""
    rows = [len(part) for part in cut(np.full(640, 10), most=1000, padding=0, least=50)]
    assert rows == sorted(rows, reverse=True)
    assert rows[:2] == [80, 70]
    assert max(rows[-3:]) == 5
    assert [len(part) for part in cut(np.full(640, 10), most=1000, padding=0, least=1000)] == [100] * 6 + [40]
    assert [len(part) for part in cut(np.full(64, 10), most=1000, padding=0, least=50)] == [64], "nothing to share"


@pytest.mark.parametrize("attention", ["softmax", "pola", "agent"])
@pytest.mark.parametrize("quirk", ["model.pool_over_padding=false", "model.pool_over_padding=true"])
def test_micro_batches_add_up_to_the_batch(cell_and_data, tmp_path, monkeypatch, attention, quirk):
    _, data = cell_and_data
    cell = plan(asked(tmp_path, attentions=[attention], overrides=(quirk, "model.dropout=0.0", "train.clip=none")))[0]
    gradients = []
    for tokens in (1, 100, 1 << 20):
        monkeypatch.setattr("lra.training.batches.MICRO_BATCH_TOKENS", {"cpu": tokens})
        model = make_model(cell, data.spec)
        Step(model, cell.config.train, CPU, PADDING, 0)(data.train, np.arange(16), 0)
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for other in gradients[1:]:
        for name, gradient in gradients[0].items():
            assert_close(other[name], gradient, rtol=1e-5, atol=1e-6, msg=name)


def test_padding_to_full_length_changes_nothing_but_cost(cell_and_data):
    cell, data = cell_and_data
    model = make_model(cell, data.spec)
    rows = np.arange(20)
    full = Padding(length=data.spec.length, to_full_length=True)
    short, padded = (evaluate(model, data.test, rows, CPU, padding) for padding in (PADDING, full))
    assert np.array_equal(short[0], padded[0])
    assert math.isclose(short[1], padded[1], rel_tol=1e-6)


def test_overfits_sixteen_samples(cell_and_data):
    cell, data = cell_and_data
    config = replace(cell.config.train, lr=5e-3, warmup=0, steps=1000)
    model = make_model(
        replace(cell, config=replace(cell.config, model=replace(cell.config.model, dropout=0.0))), data.spec
    )
    step, rows = Step(model, config, CPU, PADDING, 0), np.arange(16)
    for number in range(150):
        step(data.train, rows, number)
    predictions, loss = evaluate(model, data.train, rows, CPU, PADDING)
    assert np.array_equal(predictions, data.train.labels[rows]), f"loss {loss}"


def shares_right(record: Record, names: list[str], codes: np.ndarray) -> dict[str, float]:
    """The share of right answers among the test rows of each group name, counted row by row."""
    right: dict[str, list[bool]] = {}
    for code, hit in zip(codes, hits(record) or [], strict=True):
        right.setdefault(names[code], []).append(hit)
    shares = {name: sum(answers) / len(answers) for name, answers in right.items()}
    assert len(shares) == 4
    assert len(set(shares.values())) > 2, "equal shares would hide that groups are mixed up"
    return shares


def test_a_run_end_to_end(tmp_path, monkeypatch):
    out = tmp_path / "runs"
    (record,) = run_grid(asked(out))
    assert record.status == "done"
    assert record.test_rows == 90
    assert len(record.curve) == 3
    assert record.data["label"] == "generated"
    (path,) = out.glob("*.json")
    loaded = load_run(path)
    data = loaded.data()
    predictions, _ = evaluate(loaded.model(), data.test, np.arange(90), CPU, PADDING)
    assert float(np.mean(predictions == data.test.labels)) == record.test_accuracy
    assert hits(record) == list(predictions == data.test.labels)
    ids, keep, labels = loaded.batch(range(5, 15))
    correct = (loaded.model()(ids, keep).argmax(-1) == labels).tolist()
    assert correct == list(predictions == data.test.labels)[5:15]
    assert record.accuracy_by == {"root operator": shares_right(record, *data.test.groups["root operator"])}
    assert record.learned is False
    monkeypatch.setenv("LRA_CACHE", str(tmp_path / "cache"))
    other = replace(loaded, config=replace(loaded.config, data=replace(loaded.config.data, seed=7)))
    with pytest.raises(tasks.DataError, match=f"was trained on data {record.data['hash']}, here is "):
        other.data()
    before = path.read_bytes()
    assert run_grid(asked(out)) == [record], "a finished run is skipped"
    assert path.read_bytes() == before


def test_same_seed_same_bits_and_other_seed_not(tmp_path):
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run_grid(replace(asked(tmp_path / name), seeds=[seed]))
        weights.append(next((tmp_path / name).glob("work/*/last.safetensors")).read_bytes())
    assert weights[0] == weights[1] != weights[2]


def lines_without_seconds(folder: Path) -> list[dict]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines_of(folder)]


def test_interrupted_between_checkpoints(tmp_path, monkeypatch):
    """A run stopped within a log interval, right after a timed checkpoint, still logs the interval's mean loss."""
    run_grid(asked(tmp_path / "calm"))
    monkeypatch.setattr("lra.training.loop.SAVE_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        run_grid(asked(tmp_path / "stopped", observe=stop_at(33)))
    monkeypatch.undo()
    (record,) = run_grid(asked(tmp_path / "stopped"))
    assert lines_without_seconds(tmp_path / "calm") == lines_without_seconds(tmp_path / "stopped")
    assert record.seconds["train"] > 0


def test_returning_memory_never_fails(monkeypatch):
    """On Windows, the process has no C library that could return memory; CDLL raises TypeError."""

    def refuse(name):
        raise TypeError(name)

    monkeypatch.setattr("lra.results.machine.ctypes.CDLL", refuse)
    trim_heap()


def test_unused_memory_is_returned_once_a_minute(tmp_path, monkeypatch):
    returned = []
    monkeypatch.setattr("lra.training.loop.trim_heap", lambda: returned.append(1))
    run_grid(asked(tmp_path / "short"))
    assert not returned
    monkeypatch.setattr("lra.training.loop.TRIM_EVERY", 0.0)
    (record,) = run_grid(asked(tmp_path / "long"))
    assert len(returned) == record.config["train"]["steps"]


def test_divergence_is_a_result(tmp_path):
    request = asked(tmp_path, overrides=("train.lr=1e30", "train.clip=none"))
    (record,) = run_grid(request)
    assert record.status == "diverged"
    assert record.reason.startswith("loss not finite at step ")
    assert record.test_accuracy is None
    assert run_grid(request) == [record], "diverged is final"


def test_a_failure_is_recorded_and_retried(tmp_path, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr("lra.training.step.Step.__call__", lambda *_: 1 / 0)
        records = run_grid(replace(asked(tmp_path), attentions=["elu", "relu"]))
    assert [record.status for record in records] == ["failed", "failed"]
    assert "ZeroDivisionError" in records[0].reason
    (record,) = run_grid(asked(tmp_path))
    assert record.status == "done"


def test_test_split_is_read_after_training_only(tmp_path, monkeypatch):
    """The test split is evaluated after the last validation, whole, once or twice (best and last weights)."""
    seen = []
    real = Step.evaluate

    def spy(step, samples, rows, seed):
        seen.append((len(samples.labels), len(rows)))
        return real(step, samples, rows, seed)

    monkeypatch.setattr("lra.training.step.Step.evaluate", spy)
    run_grid(asked(tmp_path))
    assert seen[:3] == [(70, 70)] * 3
    assert seen[3:] in ([(90, 90)], [(90, 90)] * 2)


def test_skyformer_quirks_run(tmp_path):
    """A run with all historic quirks trains, and the record shows that the last test batch was dropped."""
    quirks = ("train.cycle_beta1=true", "train.clip=value", "train.drop_last=true", "train.validation_batches=3",
              "model.pool_over_padding=true", "model.attention_dropout=0.1", "data.brackets=false")  # fmt: skip
    (record,) = run_grid(asked(tmp_path, attentions=["softmax"], overrides=quirks))
    assert record.status == "done"
    assert record.test_rows == 88
    assert list(record.ladder) == ["constant", "root operator"]


def test_pairs_are_cut_by_the_longer_document(cell_and_data):
    """Micro-batches of pairs add up to the gradient of the batch; the documents of a pair stay together."""
    cell, data = cell_and_data
    spec = replace(data.spec, pair=True)
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, 300, (16, 2)).astype(np.int32)
    split = tasks.Split(data.train.values, data.train.lengths, data.train.labels[:16], pairs=pairs)
    cell = replace(cell, config=replace(cell.config, model=replace(cell.config.model, dropout=0.0)))
    gradients = []
    for tokens in (1, 1 << 20):
        model = make_model(cell, spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lra.training.batches.MICRO_BATCH_TOKENS", {"cpu": tokens})
            step = Step(model, replace(cell.config.train, clip="none"), CPU, PADDING, 0)
            step(split, np.arange(16), 0)
        assert step.real_tokens == int(data.train.lengths[pairs].sum())
        gradients.append([p.grad for p in model.parameters()])
    for first, second in zip(*gradients, strict=True):
        assert_close(first, second, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("full", [False, True])
def test_values_on_the_device_are_the_values_on_disk(cell_and_data, monkeypatch, full):
    _, data = cell_and_data
    padding, device = Padding(length=data.spec.length + 3, to_full_length=full), torch.device("cpu")
    rows = np.array([5, 2, 9])
    stored = load(data.train, rows, padding, device)
    monkeypatch.setattr("lra.training.loading.RESIDENT", ("cpu",))
    for from_disk, from_device in zip(stored, load(data.train, rows, padding, device), strict=True):
        assert_close(from_device, from_disk, rtol=0, atol=0)


def test_what_a_device_holds_of_splits(cell_and_data, monkeypatch):
    """An array that splits share is copied once; arrays of the previous task are released."""
    monkeypatch.setattr("lra.training.loading.RESIDENT", ("cpu",))
    _, data = cell_and_data
    device = torch.device("cpu")
    release()
    other = replace(data.train, labels=data.train.labels[::-1])
    first, second = resident(data.train, device), resident(other, device)
    assert first is not None
    assert second is not None
    assert first.values is second.values
    release(other)
    assert resident(other, device) is second
    assert resident(data.train, device) is not first
    release()


def test_values_without_padding():
    """At a fixed length, ids are the values and nothing is masked, unless the quirk `zero_is_padding` masks zeros."""
    split = tasks.Split(np.array([[0, 3, 0, 2]], np.uint8), np.array([4], np.int32), np.array([1]))
    plain, device = Padding(padded=False), torch.device("cpu")
    ids, keep, _ = load(split, np.arange(1), plain, device)
    assert ids.tolist() == [[0, 3, 0, 2]]
    assert keep is None
    _, keep, _ = load(split, np.arange(1), replace(plain, zero_is_padding=True), device)
    assert keep is not None
    assert keep.tolist() == [[False, True, False, True]]


@pytest.mark.gpu
@pytest.mark.parametrize("attention", ["softmax", "pola", "agent"])
def test_same_bits_on_cuda(tmp_path, attention):
    request = asked(tmp_path, attentions=[attention], overrides=("train.deterministic=true",), device="cuda")
    weights = []
    for name in ("a", "b"):
        run_grid(replace(request, out=tmp_path / name))
        weights.append(next((tmp_path / name).glob("work/*/last.safetensors")).read_bytes())
    assert weights[0] == weights[1]


def test_deterministic_is_a_switch(tmp_path):
    """`deterministic` holds within a run; afterwards the process has its previous setting."""
    seen: list[bool] = []
    for overrides in (("train.deterministic=true",), ()):
        seen.clear()
        run_grid(asked(tmp_path, overrides=overrides, observe=lambda _: seen.append(is_deterministic())))
        assert set(seen) == {bool(overrides)}
        assert not is_deterministic()
