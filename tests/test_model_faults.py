"""Faults of models or samples that once gave wrong results silently: in every gear, a right result or one line."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from asking import asked, run_grid
from steps import Recorder
from torch import nn
from torch.testing import assert_close

import tasks
from lra.backbones.flat import Encoder
from lra.backbones.layers import DtypeError, ShapeError
from lra.config.resolve import Model, Train
from lra.training.batches import MICRO_BATCH_TOKENS
from lra.training.compiled import FEW, SIZES, Compiled, RecompileError
from lra.training.device import Device, Padding
from lra.training.distributed import alone
from lra.training.eager import Eager
from lra.training.gearbox import LateError
from lra.training.optimiser import FlatAdamW
from lra.training.step import Step
from lra.training.turns import Turns

CPU, LENGTH = Device(torch.device("cpu")), 200
TRAIN = Train(steps=50, batch=12, lr=1e-2, warmup=2, evaluate_every=50, gear="eager")
GEARS = ["eager", "compiled", "captured"]


class Plain(nn.Module):
    """An attention that mixes nothing; the classes based on it also do something wrong or unusual."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(8, 8)

    def forward(self, x, keep=None):  # noqa: ARG002
        return self.out(x)


def model_of(attention) -> Encoder:
    torch.manual_seed(0)
    section = Model(layers=1, dim=8, heads=2, mlp=8, head=8, dropout=0.0)
    return Encoder(section, tasks.Spec(vocab=9, classes=3, length=LENGTH), lambda *_, **__: attention())


def split_of(lengths, classes=3) -> tasks.Split:
    random, rows = np.random.default_rng(0), len(lengths)
    values = random.integers(0, 8, (rows, LENGTH), dtype=np.uint8)
    return tasks.Split(values, np.array(lengths, np.int32), random.integers(0, classes, rows))


SPLIT = split_of(np.random.default_rng(1).integers(1, LENGTH, 40))


@pytest.fixture
def step_in(monkeypatch):
    """attention, gear -> a step in this gear, without a compiler, on samples that the device holds."""
    monkeypatch.setattr("lra.training.loading.RESIDENT", ("cpu",))
    monkeypatch.setattr("lra.training.compiled.torch.compile", lambda model, **_: model)

    def make(attention, gear, device=CPU) -> Step:
        config = replace(TRAIN, gear="eager" if gear == "captured" else gear)
        recorder = Recorder(warmups=3) if gear == "captured" else None
        step = Step(model_of(attention), config, device, Padding(length=LENGTH), seed=0, recorder=recorder)
        assert step.gears.gear.name == gear
        return step

    return make


class LateParameter(Plain):
    def forward(self, x, keep=None):
        if not hasattr(self, "scale"):
            self.scale = nn.Parameter(torch.ones(()))
        return super().forward(x, keep) * self.scale


class LateModule(Plain):
    def forward(self, x, keep=None):
        if not hasattr(self, "second"):
            self.second = nn.Linear(8, 8)
        return self.second(super().forward(x, keep))


class LateBuffer(Plain):
    def forward(self, x, keep=None):
        if not hasattr(self, "seen"):
            self.register_buffer("seen", torch.zeros(()))
        return super().forward(x, keep)


class LateReplacement(Plain):
    def forward(self, x, keep=None):
        self.out.weight = nn.Parameter(self.out.weight.detach().clone())
        return super().forward(x, keep)


class Lazy(Plain):
    def __init__(self):
        super().__init__()
        self.mix = nn.LazyLinear(8)

    def forward(self, x, keep=None):
        return self.mix(super().forward(x, keep))


@pytest.mark.parametrize("gear", GEARS)
@pytest.mark.parametrize(
    ("attention", "name"),
    [(LateParameter, "scale"), (LateModule, "second.weight"), (LateBuffer, "seen"), (LateReplacement, "out.weight"),
     (Lazy, "mix.weight")],
)  # fmt: skip
def test_what_is_made_on_the_first_forward_pass_is_refused(step_in, gear, attention, name):
    with pytest.raises(LateError, match=f"blocks.0.attention.{name}.*made on the first forward pass.*in __init__"):
        step_in(attention, gear)(SPLIT, np.arange(12), 0)


class LateInEvaluation(Plain):
    def forward(self, x, keep=None):
        if not self.training:
            self.scale = nn.Parameter(torch.ones(()))
        return super().forward(x, keep)


def test_what_is_made_in_evaluation_is_refused_at_the_next(step_in):
    step = step_in(LateInEvaluation, "eager")
    step(SPLIT, np.arange(12), 0)
    step.evaluate(SPLIT, np.arange(12))
    with pytest.raises(LateError):
        step.evaluate(SPLIT, np.arange(12))


def returning(change):
    """An attention class that applies `change` to its output."""
    return type("Changed", (Plain,), {"forward": lambda self, x, keep=None: change(Plain.forward(self, x, keep))})


@pytest.mark.parametrize("gear", GEARS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64])
def test_another_dtype_is_refused_before_training(step_in, gear, dtype):
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(DtypeError, match=rf"Changed returned {name} for x in float32; .* return y.to\(x.dtype\)"):
        step_in(returning(lambda y: y.to(dtype)), gear)(SPLIT, np.arange(12), 0)


@pytest.mark.parametrize("gear", GEARS)
def test_another_shape_is_refused_before_training(step_in, gear):
    with pytest.raises(ShapeError, match="Changed returned"):
        step_in(returning(lambda y: y[:, :1]), gear)(SPLIT, np.arange(12), 0)


def test_under_autocast_its_dtype_is_right(step_in):
    device = Device(torch.device("cpu"), "bfloat16")
    for dtype in (torch.float32, torch.bfloat16):
        step_in(returning(lambda y, dtype=dtype: y.to(dtype)), "eager", device)(SPLIT, np.arange(12), 0)
    with pytest.raises(DtypeError):
        step_in(returning(lambda y: y.half()), "eager", device)(SPLIT, np.arange(12), 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("gear", GEARS)
def test_a_logit_that_is_not_finite_is_no_prediction(step_in, gear, bad):
    step = step_in(returning(lambda y: y if torch.is_grad_enabled() else y * bad), gear)
    predictions, loss = step.evaluate(SPLIT, np.arange(40))
    assert math.isnan(loss)
    assert len(predictions) == 40


NOT_FINITE = """
from attention_zoo import QKVAttention, register

@register("late_nan", title="NaN in evaluation")
class LateNaN(QKVAttention):
    '''Divides by zero in evaluation, from some length on.'''

    def attend(self, q, k, v, keep=None):
        return v if self.training or len(v) < {rows} else v * float("nan")
"""


@pytest.mark.parametrize(("rows", "reason"), [(0, "validation logits not finite at step 20"), (71, "test logits")])
def test_evaluations_that_are_not_finite_end_as_diverged(tmp_path, monkeypatch, rows, reason):
    """The validation split (70 samples) and the test split (90) are one micro-batch each."""
    monkeypatch.setattr("lra.training.batches.MICRO_BATCH_TOKENS", {"cpu": 1 << 20})
    monkeypatch.setattr("lra.training.batches.MICRO_BATCH_PADDING", {"cpu": 1 << 20})
    file = tmp_path / "late.py"
    file.write_text(NOT_FINITE.format(rows=rows))
    (record,) = run_grid(asked(tmp_path / "runs", attentions=[str(file)]))
    assert (record.status, record.test_accuracy) == ("diverged", None)
    assert record.reason.startswith(reason)


class Counting(Plain):
    """Its result depends on its number of calls in training and on a running mean of its inputs."""

    calls: torch.Tensor
    mean: torch.Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x, keep=None):
        if self.training:
            self.calls += 1
            with torch.no_grad():
                self.mean.lerp_(x.detach().mean((0, 1)), 0.1)
        return super().forward(x, keep) + self.mean * self.calls


SAME = split_of([LENGTH] * 12)  # of one length, so that all gears cut the same micro-batches


@pytest.mark.parametrize("gear", ["compiled", "captured"])
def test_a_buffer_that_training_updates_counts_real_steps_only(step_in, monkeypatch, gear):
    """Neither the dry run nor a graph's warm-up changes it, and the weights are those of the eager gear."""
    monkeypatch.setitem(MICRO_BATCH_TOKENS, "cpu", 2 * LENGTH)
    eager, other = step_in(Counting, "eager"), step_in(Counting, gear)
    for number in range(3):
        for step in (eager, other):
            step(SAME, np.arange(12), number)
    assert float(eager.model.get_submodule("blocks.0.attention").calls) == 3 * 6
    for name, value in eager.model.state_dict().items():
        assert_close(other.model.state_dict()[name], value, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("gear", ["compiled", "captured"])
def test_a_fallback_after_a_batch_leaves_no_trace(step_in, gear):
    """The gear fails after its last micro-batch, and the eager gear computes the whole batch again."""
    eager, failing = step_in(Counting, "eager"), step_in(Counting, gear)
    gradients = failing.gears.gear.gradients

    def fail(*arguments):
        gradients(*arguments)
        raise RuntimeError("no more")

    failing.gears.gear.gradients = fail
    for number in range(3):
        for step in (eager, failing):
            step(SPLIT, np.arange(12), number)
    assert failing.gears.name == f"eager ({gear} failed: RuntimeError: no more)"
    for name, value in eager.model.state_dict().items():
        assert_close(failing.model.state_dict()[name], value, rtol=1e-5, atol=1e-6, msg=name)


class Replacing(Plain):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x, keep=None):
        if self.training:
            self.calls = self.calls + 1
        return super().forward(x, keep)


def test_a_graph_cannot_see_a_buffer_that_is_replaced(step_in):
    """The step is compiled instead, and the failed capture leaves no trace in the buffer."""
    step = step_in(Replacing, "captured")
    step(SAME, np.arange(12), 0)
    assert step.gears.name.startswith(
        "compiled (captured failed: CaptureError: buffer blocks.0.attention.calls is repl"
    )
    plain = step_in(Replacing, "eager")
    plain(SAME, np.arange(12), 0)
    assert step.model.state_dict()["blocks.0.attention.calls"] == plain.model.state_dict()["blocks.0.attention.calls"]


class Specialised(Plain):
    """Loops over the tokens, so that a compiler treats the length as a constant."""

    def forward(self, x, keep=None):
        y = super().forward(x, keep)
        for _ in range(x.shape[1] // 8):
            y = y + 0.01
        return y


class SpecialisedRows(Specialised):
    """Loops over the rows, too, for which rounded lengths do not help."""

    def forward(self, x, keep=None):
        y = super().forward(x, keep)
        for _ in range(x.shape[0]):
            y = y + 0.01
        return y


def counted(attention, padding=None):
    """A compiled gear whose graphs are interpreted, and the list of graphs that it compiles."""
    torch.compiler.reset()
    compiled = []

    def backend(module, _):
        compiled.append(module)
        return module.forward

    model = model_of(attention)
    return Compiled(model, CPU, padding or Padding(length=LENGTH), backend=backend), compiled


def gradient(gear, rows):
    optimiser = FlatAdamW(list(gear.model.parameters()), TRAIN)
    gear.gradients(SPLIT, rows, Turns(alone(optimiser.flat.device), optimiser.flat), lambda _: None)
    return optimiser.flat


def test_a_model_compiled_for_every_length_goes_on_in_a_few_lengths(monkeypatch, capfd):
    """One line names the mechanism and torch's reason; the gradient stays the same."""
    monkeypatch.setattr("lra.training.batches.MICRO_BATCH_PADDING", {"cpu": 0})
    gear, compiled = counted(Specialised)
    for rows in (np.arange(12), np.arange(12, 24)):
        assert_close(gradient(gear, rows), gradient(Eager(gear.model, CPU, gear.padding), rows), rtol=1e-4, atol=1e-5)
    assert len(compiled) <= FEW + 1 + SIZES
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "compiled" in line]
    assert line.startswith(f"gear compiled: Specialised compiled {FEW + 1} times for training (")
    assert "torch gives no reason" not in line
    assert line.endswith(f"lengths are now rounded up to {SIZES} sizes")
    gear.evaluate(SPLIT, np.arange(40))
    assert len(compiled) <= FEW + 1 + 2 * SIZES, "evaluation goes on in these lengths"


@pytest.mark.parametrize("attention", [SpecialisedRows, Specialised])
def test_a_model_compiled_for_ever_goes_on_in_the_next_gear(monkeypatch, attention, capfd):
    """Rounded lengths do not help (SpecialisedRows), or are already in use (Specialised)."""
    monkeypatch.setattr("lra.training.batches.MICRO_BATCH_TOKENS", {"cpu": 1 << 20})
    monkeypatch.setattr("lra.training.batches.MICRO_BATCH_PADDING", {"cpu": 1 << 20})
    monkeypatch.setattr("lra.training.compiled.FEW", 1)
    monkeypatch.setattr("lra.training.compiled.Compiled.sizes", 2)
    gear, _ = counted(attention)
    step = Step(gear.model, TRAIN, CPU, gear.padding, seed=0)
    step.gears.gear = gear
    if attention is Specialised:  # as if lengths were rounded, yet to no avail
        gear.rounded, gear.round_up = True, lambda longest, count: longest  # noqa: ARG005
    random = np.random.default_rng(0)
    for number in range(8):
        step(SPLIT, random.integers(0, 40, 1 + number), number)
    name = attention.__name__
    assert step.gears.name.startswith(f"eager (compiled failed: RecompileError: {name} compiled 4 times for training (")
    assert capfd.readouterr().err.count("gear eager: compiled failed") == 1


def test_what_has_one_length_cannot_be_rounded(monkeypatch):
    monkeypatch.setattr("lra.training.compiled.FEW", 1)
    gear, _ = counted(SpecialisedRows, Padding(length=LENGTH, padded=False))
    gradient(gear, np.arange(3))
    with pytest.raises(RecompileError, match="SpecialisedRows compiled 2 times"):
        gradient(gear, np.arange(5))


GROUP = (["a", "b"], np.zeros(40, np.uint8))
