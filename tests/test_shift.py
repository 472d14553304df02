"""A run that begins in the eager gear while a compiler process works, and goes on in the compiled gear."""

import os
import signal
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from asking import asked, run_grid, stop_at

from attention_zoo import process
from lra import signals
from lra.config.schema import Train
from lra.console import clock
from lra.experiments.background_compiler import BackgroundCompiler, CompileOrder, compile_model, first_rows
from lra.experiments.data import load_task_data
from lra.experiments.packed import PackedRun
from lra.experiments.plan import plan
from lra.experiments.spawn import CONTEXT
from lra.training import gearbox
from lra.training.cores import crowding
from lra.training.progress import COMPILED, Bar, Progress


class Stub:
    """In place of the compiler's process: done after `busy` was read `looks` times."""

    refusal, looks = "", 2

    def __init__(self, *_: Any):
        self.left = self.looks

    def __enter__(self):
        return self

    def __exit__(self, *_: Any):
        pass

    @property
    def busy(self) -> bool:
        self.left -= 1
        return self.left > 0

    @property
    def activity(self) -> str:
        return "compiling, 1 s so far" if self.left > 0 else ""

    @property
    def refused(self) -> str:
        return self.refusal


@pytest.fixture
def shifting(tmp_path, monkeypatch):
    """A request whose runs are in a compiled gear from step 11 on, where torch.compile does nothing."""
    monkeypatch.setattr(gearbox, "EARNED_TOKENS", 1)
    monkeypatch.setattr(gearbox, "SHIFT_TOKENS", 10 * 8 * 30)
    monkeypatch.setattr("lra.training.compiled.torch.compile", lambda model, **_: model)
    monkeypatch.setattr("lra.experiments.background_compiler.BackgroundCompiler", Stub)
    return asked(tmp_path / "runs", overrides=("model.dropout=0.0",))


def test_the_run_shifts_at_its_step(shifting, tmp_path, monkeypatch):
    monkeypatch.setattr(Stub, "looks", 8)
    seen = []
    watching = replace(shifting, observe=lambda p: seen.append((p.step, p.activity)))
    (record,) = run_grid(watching)
    assert record.environment["gear"] == "compiled"
    assert {step for step, activity in seen if activity} == set(range(1, 12)), "at step 11 it waits"
    assert sum(step == 11 for step, _ in seen) > 2
    assert record.seconds["compile"] > 1, "what it waits is no training"
    (eager,) = run_grid(replace(shifting, out=tmp_path / "eager", overrides=(*shifting.overrides, "train.gear=eager")))
    assert (eager.identity, eager.environment["gear"]) == (record.identity, "eager")
    for one, other in zip(record.curve, eager.curve, strict=True):
        assert one["validation_loss"] == pytest.approx(other["validation_loss"], rel=1e-4)


@pytest.mark.parametrize("step", [45, 60])
def test_a_resumed_run_is_in_the_gear_of_its_step(shifting, tmp_path, step):
    """Also a run that was stopped after its last step, before it was tested."""

    with pytest.raises(KeyboardInterrupt):
        run_grid(replace(shifting, observe=stop_at(step)))
    (resumed,) = run_grid(shifting)
    (calm,) = run_grid(replace(shifting, out=tmp_path / "calm"))
    assert resumed.environment["gear"] == calm.environment["gear"] == "compiled"
    assert resumed.predictions == calm.predictions


def test_a_signal_while_it_waits_for_the_compiler(shifting, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(Stub, "looks", 30)
    seen = []

    def stop(progress):
        seen.append(progress.step)
        if seen.count(11) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with signals.caught(), pytest.raises(signals.Stopped):
        run_grid(replace(shifting, observe=stop))
    monkeypatch.setattr(Stub, "looks", 2)
    assert "saved at step 11 of 60, stops" in capfd.readouterr().err
    (resumed,) = run_grid(shifting)
    (calm,) = run_grid(replace(shifting, out=tmp_path / "calm"))
    assert resumed.environment["gear"] == calm.environment["gear"] == "compiled"
    assert resumed.predictions == calm.predictions


def test_what_the_compiler_refuses_runs_eager(shifting, monkeypatch, capfd):
    monkeypatch.setattr(Stub, "refusal", "Unsupported: this")
    (record,) = run_grid(shifting)
    assert record.environment["gear"] == "eager (compiled failed: Unsupported: this)"
    assert "gear eager: compiled failed: Unsupported: this" in capfd.readouterr().err


def test_a_resumed_run_stays_in_the_gear_it_has_fallen_back_to(shifting, tmp_path, monkeypatch, capfd):
    """The run stays eager although the compiler would work by now, so that its bits are those of an undisturbed run."""
    monkeypatch.setattr(Stub, "refusal", "Unsupported: this")

    with pytest.raises(KeyboardInterrupt):
        run_grid(replace(shifting, observe=stop_at(30)))
    (calm,) = run_grid(replace(shifting, out=tmp_path / "calm"))
    monkeypatch.setattr(Stub, "refusal", "")
    (resumed,) = run_grid(shifting)
    assert resumed.environment["gear"] == calm.environment["gear"] == "eager (compiled failed: Unsupported: this)"
    assert resumed.predictions == calm.predictions
    assert "gear eager, as when the checkpoint was saved: compiled failed" in capfd.readouterr().err


def test_the_step_depends_on_the_configuration_alone():
    config = Train(steps=5000, batch=32, lr=1.0, warmup=0, evaluate_every=1)
    assert gearbox.shift_step(config, "compiled", "cpu", 2000) == 250
    assert gearbox.shift_step(config, "eager", "cpu", 2000) == 0
    assert gearbox.shift_step(config, "compiled", "cuda", 2000) == 0, "no CPU compiler works for a GPU"
    assert gearbox.shift_step(replace(config, gear="compiled"), "compiled", "cpu", 2000) == 0, "asked for"


def test_the_compiler_gets_a_batch_by_itself(tmp_path):
    run = plan(asked(tmp_path))[0]
    data = load_task_data("listops", run.config, None).data
    batch = first_rows(data.train, 8)
    assert len(batch.labels) == len(batch.values) == 8
    assert np.array_equal(batch.values, data.train.values[:8])
    pairs = np.array([[5, 3], [5, 1], [0, 2]], np.int32)
    both = replace(data.train, labels=data.train.labels[:3], pairs=pairs)
    batch = first_rows(both, 2)
    assert batch.pairs is not None
    assert np.array_equal(batch.values[batch.pairs[1, 1]], data.train.values[1])
    assert np.array_equal(batch.lengths[batch.pairs[0]], data.train.lengths[[5, 3]])


def test_the_compilers_process_has_the_settings_of_the_run(shifting, monkeypatch):
    """Settings are part of the cache's keys: under other settings the run would not find the code."""
    seen = []
    monkeypatch.setattr(
        "lra.training.compiled.torch.compile", lambda model, **_: (seen.append(process.look()), model)[1]
    )
    monkeypatch.setattr("lra.experiments.background_compiler.follow_parent", lambda: None)
    monkeypatch.setattr("lra.console.show", lambda **_: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    shifting = replace(shifting, overrides=(*shifting.overrides, "train.steps=20", "train.warmup=2"))
    (record,) = run_grid(shifting)
    assert record.environment["gear"] == "compiled"
    (run,) = plan(shifting)
    data = load_task_data("listops", run.config, None).data
    order = CompileOrder(PackedRun.of(run), data.spec, first_rows(data.train, 8))
    theirs: Any = CONTEXT.Pipe(duplex=False)[1]
    with process.kept():
        torch.set_num_threads(3)
        torch.set_float32_matmul_precision("medium")
        torch.use_deterministic_algorithms(True)
        torch.backends.cuda.enable_cudnn_sdp(True)
        compile_model(theirs, order)
    of_the_run, of_the_compiler = seen
    assert of_the_compiler == of_the_run


SUMMING = """
from attention_zoo import Attention, register

@register("branching", title="Branching")
class Branching(Attention):
    def forward(self, x, keep=None):
        return x if float(x.detach().sum()) > 0 else x
"""


def test_the_real_process_says_why_it_cannot(tmp_path):
    path = tmp_path / "branching.py"
    path.write_text(SUMMING)
    run = plan(asked(tmp_path, attentions=[str(path)]))[0]
    data = load_task_data("listops", run.config, None).data
    with BackgroundCompiler(run, data.spec, data.train) as compiler:
        assert compiler.activity.startswith("compiling, 0 s")
        compiler.process.join(120)
        assert not compiler.busy
        assert compiler.activity == ""
        assert "UserError: Consider annotating your code" in compiler.refused


@pytest.mark.slow
def test_the_real_process_leaves_code_in_the_cache(tmp_path, monkeypatch):
    """The run finds the code in the cache and compiles nothing."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(gearbox, "EARNED_TOKENS", 1)
    monkeypatch.setattr(gearbox, "SHIFT_TOKENS", 10 * 8 * 30)
    torch._dynamo.utils.counters.clear()
    (record,) = run_grid(asked(tmp_path / "runs", attentions=["pola"]))
    assert record.environment["gear"] == "compiled"
    counters = torch._dynamo.utils.counters["inductor"]
    assert counters["fxgraph_cache_hit"] + torch._dynamo.utils.counters["aot_autograd"]["autograd_cache_hit"] >= 2
    assert counters["fxgraph_cache_miss"] == 0


@pytest.mark.slow
def test_compiled_processes_are_one_to_the_last_bit(tmp_path, monkeypatch):
    """The first process compiles, and the others find its code in the cache."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    overrides = ("train.gear=compiled", "train.steps=20", "train.warmup=2", "train.batch=128", "data.max_length=60")
    wanted = {"attentions": ["agent"], "overrides": overrides}
    two, one = (run_grid(asked(tmp_path / f"{n}", processes=n, **wanted))[0] for n in (2, 1))
    assert (two.environment["processes"], one.environment["processes"]) == (2, 1)
    assert two.environment["gear"] == one.environment["gear"] == "compiled"
    assert (two.predictions, two.curve[-1]["train_loss"]) == (one.predictions, one.curve[-1]["train_loss"])


def bar_of(steps: int, crowd: float = 1.0) -> Bar:
    return Bar("", Train(steps=steps, batch=32, lr=1.0, warmup=0, evaluate_every=steps), rows=0, crowd=crowd)


def fed(bar: Bar, progress: Progress, steps: int, seconds: float, activity: str = "") -> tuple[float, float]:
    """The forecast (seconds left, tokens/s) after `steps` more steps of `seconds` and 100 tokens each."""
    for _ in range(steps):
        progress.step, progress.train_seconds = progress.step + 1, progress.train_seconds + seconds
        progress.real_tokens, progress.activity = progress.real_tokens + 100, activity
        bar.update(progress)
    return bar.forecast(progress)


def test_the_forecast_goes_by_the_last_seconds():
    bar, progress = bar_of(1000), Progress()
    assert fed(bar, progress, 50, 1.0)[0] == pytest.approx(950)
    assert fed(bar, progress, 100, 0.5) == (pytest.approx(425), pytest.approx(200))
    assert len(bar.recent) < 40
    assert fed(bar_of(100), Progress(), 30, 10.0)[0] == pytest.approx(700), "at least twenty steps"


def test_the_forecast_knows_the_gear_to_come():
    """Before the shift, it expects less crowding once the compiler is done, and faster steps after the shift."""
    bar, progress = bar_of(1000, crowd=1.5), Progress()
    progress.shift_at = 100
    seconds, _ = fed(bar, progress, 50, 3.0, activity="compiling")
    assert seconds == pytest.approx(50 * 2 + 900 * 2 / COMPILED)
    seconds, speed = fed(bar, progress, 53, 1.0)
    assert (seconds, speed) == (pytest.approx(897), pytest.approx(100)), "of the new gear alone"


def test_crowding(monkeypatch):
    monkeypatch.setattr("lra.training.cores.affinity", lambda: frozenset(range(4)))
    assert [crowding(processes) for processes in (1, 3, 4, 8)] == [1.0, 1.0, 1.25, 1.125]


def test_clock():
    assert [clock(seconds) for seconds in (3, 89, 90, 5_370, 5_400, 12_240)] == [
        "3 s", "89 s", "2 min", "1 h 30 min", "1 h 30 min", "3 h 24 min",
    ]  # fmt: skip


def test_the_bar_says_what_goes_on(monkeypatch):
    texts = []
    monkeypatch.setattr("tqdm.std.tqdm.set_postfix_str", lambda _, text, **__: texts.append(text))
    fed(bar_of(1000), Progress(), 30, 1.0, activity="compiling, 40 s so far")
    assert texts[-1] == "compiling, 40 s so far, 100 tokens/s, 16 min left"
