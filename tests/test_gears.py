"""The gears: each gives the same gradient of a batch; a captured step takes nothing but tensors from the host."""

import copy
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from asking import asked, run_grid
from steps import Recorder, evaluate
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch._aot_autograd.utils import make_boxed_func
from torch.testing import assert_close

import tasks
from lra.backbones.layers import Dropout
from lra.config.schema import Train
from lra.errors import ConfigError
from lra.experiments.build import make_model, padding_of
from lra.experiments.data import load_task_data
from lra.experiments.grid import check_devices
from lra.experiments.plan import plan
from lra.training.captured import Captured, CaptureError
from lra.training.compiled import Compiled
from lra.training.device import Device, Padding, choose_device, choose_precision, synchronise
from lra.training.distributed import alone
from lra.training.eager import Eager
from lra.training.gearbox import choose_gear
from lra.training.optimiser import FlatAdamW
from lra.training.step import Step
from lra.training.turns import Turns

ATTENTIONS = ["pola", "softmax", "relu", "elu", "flatten", "agent", "mean", "identity"]
CPU = Device(torch.device("cpu"))
ROWS = np.random.default_rng(0).permutation(60)[:30]


def request(attention, *overrides, **changes):
    return asked(attentions=[attention], overrides=overrides, **changes)


@pytest.fixture
def setup(monkeypatch):
    """attention, overrides -> cell with batches of 30, data, model, (device, padding); data is resident as on CUDA."""
    monkeypatch.setattr("lra.training.loading.RESIDENT", ("cpu",))

    def make(attention="elu", *overrides):
        cell = plan(request(attention, "model.dropout=0.0", "train.batch=30", *overrides))[0]
        data = load_task_data("listops", cell.config, None).data
        return cell, data, make_model(cell, data.spec), (CPU, padding_of(cell, data.spec))

    return make


def interpreted(model, device, padding):
    """The compiled gear with a backend that compiles nothing: graphs and guards are made and interpreted."""
    return Compiled(model, device, padding, backend=lambda module, _: module.forward)


@pytest.fixture
def no_compiler(monkeypatch):
    """torch.compile returns the model unchanged, also in captured steps."""
    monkeypatch.setattr("lra.training.compiled.torch.compile", lambda model, **_: model)


def gradient(gear, model, samples, rows=ROWS):
    optimiser = FlatAdamW(list(model.parameters()), Train(steps=1, batch=1, lr=0.0, warmup=0, evaluate_every=1))
    gear.gradients(samples, rows, Turns(alone(optimiser.flat.device), optimiser.flat), lambda _: None)
    return optimiser.flat


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize(
    ("attention", "quirk"),
    [*((name, "model.pool_over_padding=false") for name in ATTENTIONS), ("elu", "model.pool_over_padding=true")],
)
def test_captured_gradients_are_the_batchs(setup, attention, quirk):
    """Rows without a label, lengths rounded up to a few, and accumulation change no gradient."""
    _, data, model, place = setup(attention, quirk)
    eager = gradient(Eager(model, *place), model, data.train)
    optimiser = FlatAdamW(list(model.parameters()), Train(steps=9, batch=30, lr=0.0, warmup=0, evaluate_every=1))
    recorder = Recorder()
    gear = Captured(model, *place, optimiser=optimiser, batch=30, recorder=recorder)
    assert gear.rows == 8, "the last micro-batch has rows without a label"
    for _ in range(2):
        optimiser.flat.zero_()
        gear.gradients(data.train, ROWS, Turns(alone(optimiser.flat.device), optimiser.flat), lambda _: None)
        assert_close(optimiser.flat, eager, rtol=1e-5, atol=1e-6)
    assert recorder.recorded == len(gear.graphs_by_length) > (not place[1].to_full_length)
    assert recorder.replayed == 8


def test_a_step_that_can_be_captured_does_not_advise_against_it(monkeypatch):
    """Steps before a capture are not captured, and PyTorch's warning about it would appear in every run."""
    optimiser = FlatAdamW([nn.Parameter(torch.zeros(2))], Train(steps=1, batch=1, lr=0.1, warmup=0, evaluate_every=1))
    plain = optimiser.optimizer.step

    def step():
        warnings.warn("This instance was constructed with capturable=True or some of all", stacklevel=1)
        optimiser.optimizer.param_groups[0]["capturable"] = False  # a CPU cannot
        plain()

    monkeypatch.setattr(optimiser.optimizer, "step", step)
    optimiser.optimizer.param_groups[0]["capturable"] = True
    optimiser.move()
    assert optimiser.number.item() == 1
    with pytest.warns(UserWarning, match="capturable"):
        optimiser.move()  # here capturable is False, and the warning passes


@pytest.mark.parametrize("attention", ["pola", *(pytest.param(a, marks=pytest.mark.slow) for a in ATTENTIONS[1:])])
def test_compiled_once_for_every_shape(setup, attention):
    """One graph without breaks for every length and number of rows, with the gradient of the eager gear."""
    _, data, model, place = setup(attention)
    graphs = []
    gear = Compiled(model, *place, backend=lambda module, _: (graphs.append(module), module.forward)[1])
    torch.compiler.reset()
    for rows in (ROWS, ROWS[:1], ROWS[:7], ROWS[5:]):
        assert_close(gradient(gear, model, data.train, rows), gradient(Eager(model, *place), model, data.train, rows))
    assert len(graphs) == 1
    assert gear.compile_seconds > 0
    predictions, losses = gear.evaluate(data.test, np.arange(70))
    expected = evaluate(model, data.test, np.arange(70), *place)
    assert np.array_equal(predictions, expected[0])
    assert math.isclose(losses.sum() / 70, expected[1], rel_tol=1e-5)
    assert len(graphs) == 2, "one more for evaluation"


def test_a_longest_micro_batch_first_is_no_reason_to_run_eager(setup):
    """At the longest length, a table of that length is not cut; the compiler could take the length for a constant."""
    _, data, model, place = setup("linformer:rank=5")
    lengths = data.train.lengths.copy()
    lengths[ROWS[0]] = place[1].length
    samples = tasks.Split(data.train.values, lengths, data.train.labels)
    gear = Compiled(model, *place, backend="aot_eager")
    torch.compiler.reset()
    assert_close(gradient(gear, model, samples), gradient(Eager(model, *place), model, samples), rtol=1e-4, atol=1e-6)


SLOW_MODELS = [
    pytest.param(override, marks=pytest.mark.slow)
    for override in ("model.positions=rope", "model.positions=none", "model.pool=first", "model.pool_over_padding=true")
]


@pytest.mark.parametrize("override", ["model.positions=sincos", "model.pool=cls", *SLOW_MODELS])
def test_the_model_around_the_attention_is_compiled_once(setup, override):
    """The micro-batch of the longest length, in which no table is cut, may come first or last."""
    _, data, model, place = setup("relu", override, "model.layers=1")
    lengths = data.train.lengths.copy()
    lengths[ROWS[8]] = place[1].length
    samples = tasks.Split(data.train.values, lengths, data.train.labels)
    for order in ((ROWS[:8], ROWS), (ROWS, ROWS[:8])):
        graphs = []
        gear = Compiled(model, *place, backend=lambda module, _, made=graphs: (made.append(module), module.forward)[1])
        torch.compiler.reset()
        for rows in order:
            expected = gradient(Eager(model, *place), model, samples, rows)
            assert_close(gradient(gear, model, samples, rows), expected, rtol=1e-4, atol=1e-6)
        assert len(graphs) == 1
        gear.evaluate(samples, ROWS)
        gear.evaluate(samples, ROWS[:8])
        assert len(graphs) == 2, "one more for evaluation"


def test_compiled_drops_what_eager_drops(setup):
    """On a CPU the draws of dropout do not depend on the gear."""
    _, data, model, place = setup("elu", "model.dropout=0.3")
    rows, gradients = ROWS[:7], []
    for gear in (Eager(model, *place), interpreted(model, *place), Eager(model, *place)):
        torch.manual_seed(len(gradients) // 2)
        gradients.append(gradient(gear, model, data.train, rows))
    assert_close(gradients[0], gradients[1])
    assert not torch.allclose(gradients[0], gradients[2]), "another seed drops others"


def test_long_sums_stay_float32_in_a_compiled_backward_pass(setup):
    """As in the eager gear, whose backward passes run outside of autocast, matrix products of gradients are float32."""
    _, data, model, place = setup("pola", "model.layers=1")
    backward = []

    def compiler(kept):
        return lambda module, _: (kept.append(module), make_boxed_func(module.forward))[1]

    backend = aot_autograd(fw_compiler=compiler([]), bw_compiler=compiler(backward))
    gear = Compiled(model, replace(place[0], precision="bfloat16"), place[1], backend=backend)
    torch.compiler.reset()
    actual = gradient(gear, model, data.train, ROWS[:7])
    kinds = [node.meta["val"].dtype for node in backward[0].graph.nodes if node.target is torch.ops.aten.bmm.default]
    assert len(kinds) >= 4, "the gradients of q, k, v and the state"
    assert set(kinds) == {torch.float32}
    expected = gradient(Eager(model, gear.device, place[1]), model, data.train, ROWS[:7])
    assert float((actual - expected).norm() / expected.norm()) < 0.02


@pytest.mark.parametrize("gear", ["captured", "compiled"])
def test_pairs_in_every_gear(setup, gear, request):
    """Pairs are sorted by their longer document, and both documents of a pair are in one micro-batch."""
    if gear == "captured":
        request.getfixturevalue("no_compiler")
    cell, data, _, place = setup()
    model = make_model(cell, replace(data.spec, pair=True))
    pairs = np.random.default_rng(1).integers(0, 300, (16, 2)).astype(np.int32)
    split = tasks.Split(data.train.values, data.train.lengths, data.train.labels[:16], pairs=pairs)
    rows, config = np.arange(16), replace(cell.config.train, batch=16)
    optimiser = FlatAdamW(list(model.parameters()), config)
    other = (
        Captured(model, *place, optimiser=optimiser, batch=16, recorder=Recorder())
        if gear == "captured"
        else interpreted(model, *place)
    )
    other.gradients(split, rows, Turns(alone(optimiser.flat.device), optimiser.flat), lambda _: None)
    actual = optimiser.flat.clone()
    assert_close(actual, gradient(Eager(model, *place), model, split, rows), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize("schedule", [{}, {"schedule": "rsqrt", "weight_decay": 0.1, "clip": "value"}])
def test_captured_steps_are_eager_steps(setup, schedule):
    """Clipping, AdamW, the schedule and tallies need nothing but tensors; another gear goes on from the state."""
    cell, data, _, place = setup()
    # A large eps, because Adam would turn the rounding error of a gradient of zero into a step
    config = replace(cell.config.train, steps=12, warmup=3, clip_at=0.05, eps=1e-3, **schedule)
    eager, captured, resumed = (
        Step(make_model(cell, data.spec), config, *place, seed=0, recorder=recorder)
        for recorder in (None, Recorder(), None)
    )
    assert isinstance(captured.gears.gear, Captured)
    for number in range(6):
        for step in (eager, captured):
            step(data.train, ROWS, number)
    resumed.model.load_state_dict(captured.model.state_dict())
    resumed.optimiser.load_state_dict(copy.deepcopy(captured.optimiser.state_dict()))
    for number in range(6, 12):
        for step in (eager, captured, resumed):
            step(data.train, ROWS, number)
    for other in (captured, resumed):
        for name, value in eager.model.state_dict().items():
            assert_close(other.model.state_dict()[name], value, rtol=1e-5, atol=1e-6, msg=name)
        assert_close(other.optimiser.loss_sum, eager.optimiser.loss_sum)
        assert int(other.optimiser.bad_step) == 0
    assert captured.real_tokens == eager.real_tokens


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize("recorder", [None, Recorder()])
def test_first_bad_step_is_remembered(setup, recorder):
    cell, data, model, place = setup()
    step = Step(model, replace(cell.config.train, steps=9, warmup=2), *place, seed=0, recorder=recorder)
    for number in range(4):
        if number == 2:
            model.head[0].weight.data[0, 0] = math.nan
        step(data.train, ROWS, number)
    assert int(step.optimiser.bad_step) == 3


BRANCHING = """
from attention_zoo import Attention, register

@register("branching", title="Branching")
class Branching(Attention):
    '''What it computes depends on the data.'''

    def forward(self, x, keep=None):
        return x if float(x.detach().sum()) > 0 else x
"""


def test_an_attention_that_cannot_be_compiled_runs_eager(tmp_path, capfd):
    """One line on stderr and the record name the cause."""
    file = tmp_path / "branching.py"
    file.write_text(BRANCHING)
    (record,) = run_grid(request(str(file), "train.gear=compiled", out=tmp_path / "runs"))
    assert record.status == "done"
    assert record.environment["gear"].startswith("eager (compiled failed: ")
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("gear eager: compiled failed")]
    assert len(said) == 1
    assert record.seconds["train"] > 0
    (again,) = run_grid(request(str(file), "train.gear=eager", out=tmp_path / "runs"))
    assert again == record, "the gear is no part of a record's identity"
    assert record.protocol == "tiny"


@pytest.mark.usefixtures("no_compiler")
def test_what_only_a_graph_refuses_is_compiled(setup):
    """A failed capture falls back to the compiled gear, not to the eager one."""
    cell, data, model, place = setup()

    def refuse(function, touched):  # noqa: ARG001
        raise CaptureError("no graph of this")

    config = replace(cell.config.train, steps=9, warmup=0, clip="none", lr=0.0)
    step = Step(model, config, *place, seed=0, recorder=refuse)
    step(data.train, ROWS, 0)
    assert step.gears.name == "compiled (captured failed: CaptureError: no graph of this)"
    assert_close(step.optimiser.flat, gradient(Eager(model, *place), model, data.train), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", ["pola", "swin", "agent"])
def test_a_grid_is_compiled(attention):
    """The sides of a grid are constants; only the number of rows varies, in one graph."""
    cell = plan(replace(request(attention, "model.grid=true", "model.layers=1", protocol="quick"), tasks=["image"]))[0]
    spec = tasks.Spec(vocab=256, classes=10, length=64, grid=(8, 8), padded=False)
    random = np.random.default_rng(0)
    data = tasks.Split(random.integers(0, 256, (9, 64), dtype=np.uint8), np.full(9, 64, np.int32), np.arange(9))
    model, place = make_model(cell, spec), (CPU, Padding(length=64, padded=False))
    graphs = []
    gear = Compiled(model, *place, backend=lambda module, _: (graphs.append(module), module.forward)[1])
    torch.compiler.reset()
    for rows in (np.arange(9), np.arange(8)):  # fewer than 8 would have guards of their own for PyTorch's convolution
        assert_close(gradient(gear, model, data, rows), gradient(Eager(model, *place), model, data, rows))
    assert len(graphs) == 1


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize("recorder", [None, Recorder()])
def test_combined_kernels_that_fail_are_separated(setup, monkeypatch, recorder):
    """The gear stays compiled, without combined kernels; its name, which goes into the record, says so."""
    cell, data, model, place = setup()
    monkeypatch.setattr("lra.training.compiled.COMBINED", ("cpu",))
    compute = Compiled.compute

    def fail(self, ids, keep):
        if self.combined:
            raise RuntimeError("no such kernel")
        return compute(self, ids, keep)

    monkeypatch.setattr(Compiled, "compute", fail)
    step = Step(
        model,
        replace(cell.config.train, steps=9, warmup=0, gear="compiled", clip="none", lr=0.0),
        *place,
        seed=0,
        recorder=recorder,
    )
    assert isinstance(step.gears.gear, Compiled)
    assert step.gears.gear.combined
    name = step.gears.gear.name
    step(data.train, ROWS, 0)
    assert step.gears.name == f"{name} (combined kernels failed: RuntimeError: no such kernel)"
    assert_close(step.optimiser.flat, gradient(Eager(model, *place), model, data.train), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize("recorder", [None, Recorder()])
def test_one_dry_run_of_two_samples(setup, recorder):
    cell, data, model, place = setup()
    rows = []
    model.register_forward_hook(lambda _, arguments, __: rows.append(len(arguments[0])))
    step = Step(model, replace(cell.config.train, steps=9, warmup=2), *place, seed=0, recorder=recorder)
    for number in range(3):
        step(data.train, ROWS, number)
    assert rows[0] == 2
    assert rows.count(2) == 1


def test_a_user_error_is_told_as_it_is(setup, monkeypatch):
    cell, data, model, place = setup()
    monkeypatch.setattr(model.blocks[0].attention, "attend", lambda *_: torch.zeros(3) @ torch.zeros(4))
    step = Step(model, replace(cell.config.train, gear="compiled"), *place, seed=0)
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        step(data.train, ROWS, 0)


def test_a_gpu_has_its_number(monkeypatch):
    empty = torch.empty
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    monkeypatch.setattr(torch, "empty", lambda *sizes, **_: empty(*sizes))
    assert [str(choose_device(name)) for name in ("auto", "cuda", "cuda:1", "cpu")] == ["cuda:2"] * 2 + [
        "cuda:1",
        "cpu",
    ]


def test_a_device_that_computes_nothing_is_refused():
    with pytest.raises(ConfigError, match="device 'meta' cannot be used here"):
        choose_device("meta")


def test_every_kind_of_gpu_is_waited_for(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
    for name in ("cpu", "cuda:1", "mps"):
        synchronise(torch.device(name))
    assert waited == [torch.device("cuda", 1), "mps"]


def test_the_choice_of_a_gear():
    cpu, cuda = ("cpu", 2000), ("cuda", 2000)
    long = Train(steps=20_000, batch=32, lr=1e-4, warmup=0, evaluate_every=500)
    assert choose_gear(long, *cpu) == ("compiled", "")
    assert choose_gear(replace(long, steps=1000), "cpu", 60) == ("eager", "")
    assert choose_gear(replace(long, deterministic=True), *cpu) == ("eager", "")
    assert choose_gear(long, *cuda) == ("captured", "")
    assert choose_gear(replace(long, steps=1000), *cuda) == ("eager", ""), "quick does not wait for a compiler"
    assert choose_gear(replace(long, deterministic=True), *cuda) == ("eager", "")
    gear, cause = choose_gear(replace(long, cycle_beta1=True), *cuda)
    assert gear == "compiled"
    assert "cycle_beta1" in cause
    assert choose_gear(replace(long, gear="captured"), *cpu)[0] == "compiled"
    assert choose_gear(replace(long, gear="eager"), *cuda) == ("eager", "")


def test_dropout_keeps_the_mean():
    """Every element is dropped with equal probability, independently of its neighbours; the kept ones are scaled."""
    torch.manual_seed(0)
    dropout, x = Dropout(0.3), torch.ones(401, 501)
    y = dropout(x)
    assert y.unique().tolist() == pytest.approx([0.0, 1 / 0.7], rel=1e-4)
    assert abs(float((y == 0).float().mean()) - 0.3) < 0.005
    assert abs(float((y == 0).float().mean(0).std()) - math.sqrt(0.21 / 401)) < 0.003
    neighbours = ((y[:, 1:] == 0) & (y[:, :-1] == 0)).float().mean()
    assert abs(float(neighbours) - 0.09) < 0.005
    assert dropout.eval()(x) is x
    assert not Dropout(1.0)(x).any()


@pytest.mark.slow
@pytest.mark.parametrize("gear", ["compiled", pytest.param("captured", marks=pytest.mark.gpu)])
def test_accuracy_does_not_depend_on_the_gear(tmp_path, gear):
    """Five seeds of a short `quick` run: the gears' mean test accuracies differ by less than noise allows."""
    accuracies = {}
    for name in ("eager", gear):
        overrides = (f"train.gear={name}", "train.steps=300", "model.dropout=0.1")
        changes = {"protocol": "quick", "out": tmp_path / name, "device": "auto"}
        records = run_grid(request("elu", *overrides, seeds=[0, 1, 2, 3, 4], **changes))
        assert {record.environment["gear"] for record in records} == {name}
        accuracies[name] = np.array([record.test_accuracy for record in records])
    difference = accuracies[gear] - accuracies["eager"]
    assert abs(difference.mean()) < 0.01 + 2.8 * difference.std(ddof=1) / math.sqrt(5)


@pytest.mark.usefixtures("no_compiler")
def test_a_checkpoint_brings_back_what_failed_and_nothing_else(setup, monkeypatch):
    cell, _, model, place = setup()
    monkeypatch.setattr("lra.training.compiled.COMBINED", ("cpu",))
    config = replace(cell.config.train, steps=9, warmup=0, gear="compiled")

    def resumed(**state):
        gears = Step(model, config, *place, seed=0).gears
        gears.restore({"device": "cpu", "name": "compiled", "cause": "", "rounded": False} | state)
        return gears

    def combined(gears) -> bool:
        return getattr(gears.gear, "combined", False)

    assert combined(resumed())
    assert combined(resumed(name="eager")), "it was asked for the eager gear, and now is for another"
    failed = resumed(cause="combined kernels failed: RuntimeError: no such kernel")
    assert not combined(failed)
    assert failed.name == "compiled (combined kernels failed: RuntimeError: no such kernel)"
    slow = resumed(name="eager", cause="compiled failed: no g++")
    assert slow.name == "eager (compiled failed: no g++)"
    assert resumed(name="eager", cause="compiled failed: no g++", device="cuda").name == "compiled"
    assert resumed(rounded=True).state()["rounded"]
    kept = slow.state()
    assert resumed(**kept).state() == kept


def test_the_precision_is_what_the_gpu_computes_in(monkeypatch):
    """A T4 (7.5) would emulate bfloat16. With --devices the first one counts."""
    capabilities = {3: (7, 5), 4: (8, 0)}
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 5)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capabilities[device.index])
    devices = [check_devices(names) for names in (["cuda:3", "cuda:4"], ["cuda:4"], ["cpu"])]
    assert [choose_precision("auto", device) for device in devices] == ["float32", "bfloat16", "float32"]
    assert choose_precision("bfloat16", devices[0]) == "bfloat16"
    assert choose_precision("auto", torch.device("cuda"), here=False) == "bfloat16", "the GPU of a cluster's node"
