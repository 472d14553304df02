"""The baseline of benchmarks/ computes what the suite computes, so that their ratio compares equal models."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from asking import asked
from torch.testing import assert_close

import tasks
from lra.bench import baseline, samples, yardstick
from lra.bench.runner import BenchRequest
from lra.bench.workload import Timing
from lra.cli import main
from lra.experiments.build import make_model
from lra.experiments.plan import plan

pytestmark = pytest.mark.usefixtures("quiet_machine")
LENGTH, LENGTHS = 60, [60, 49, 23, 3]


@pytest.mark.parametrize("name", baseline.MAKERS)
def test_the_baseline_is_the_same_model(name):
    """Logits and gradients of both with the same weights, in float64, without dropout."""
    cell = plan(asked(attentions=[name]))[0]
    model = replace(cell.config.model, dropout=0.0)
    cell = replace(cell, config=replace(cell.config, model=model))
    ours = make_model(cell, tasks.Spec(vocab=16, classes=10, length=LENGTH)).double()
    plain = baseline.Encoder(name, model, 16, 10, LENGTH).double()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
    plain.load_state_dict(ours.state_dict())
    keep = torch.arange(LENGTH) < torch.tensor(LENGTHS)[:, None]
    ids = torch.where(keep, torch.randint(1, 16, keep.shape, generator=torch.Generator().manual_seed(4)), 0)
    mine, theirs = ours(ids, keep), plain(ids, keep.double())
    assert_close(mine, theirs.to(mine.dtype), rtol=1e-6, atol=1e-7)
    for logits in (mine, theirs):
        F.cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()
    theirs_by_name = dict(plain.named_parameters())
    for key, parameter in ours.named_parameters():
        assert_close(parameter.grad, theirs_by_name[key].grad, rtol=1e-5, atol=1e-7)


def test_the_table():
    """Medians and ratios of medians; a row without a figure has no ratio."""

    def one(attention, name, *seconds, failed=""):
        return yardstick.Contender(attention, name, lambda _: None, None, list(seconds), failed)

    contenders = [
        one("pola", "eager", 0.3, 0.1, 0.2),
        one("pola", "compiled", 0.1),
        one("pola", "baseline", 1.0),
        one("softmax", "eager", 0.4),
        one("softmax", "compiled", failed="failed: no compiler"),
        one("softmax", "baseline", failed="no memory"),
        one("identity", "eager", 0.05),
        one("identity", "compiled", 0.08),
        one("identity", "baseline", 0.5),
    ]
    table = yardstick.table("listops", contenders)
    assert table.header[:4] == ["Attention", "eager, ms", "compiled, ms", "baseline, ms"]
    assert table.rows == [
        ["pola", "200.0", "100.0", "1,000.0", "10.00", "2.00", None],
        ["softmax", "400.0", "failed: no compiler", "no memory", None, "8.00", None],
        ["identity", "50.0", "80.0", "500.0", "10.00", "1.00", None],
    ]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "no memory"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:126] . DefaultCPUAllocator: can't allocate memory"), "no memory"),
        (MemoryError(), "no memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "no memory"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "failed: CUDA error: an illegal"),
        (RuntimeError("\nCUDA error: device-side\nCUDA kernel errors might"), "failed: CUDA error: device-side"),
        (RuntimeError(), "failed: RuntimeError"),
    ],
)
def test_what_running_out_of_memory_is(error, words):
    def act(_: int):
        raise error

    contender = yardstick.Contender("pola", "eager", act)
    contender.round(0, torch.device("cpu"))
    assert contender.failed.startswith(words)
    assert "\n" not in contender.failed, "it is the cell of a table"


def test_a_small_run():
    template = Timing(batch=2, device="cpu", repeats=1)
    request = BenchRequest(attentions=["elu"], tasks=["image"], gears=["eager"], template=template)
    (table,) = yardstick.measure_all(request)
    assert table.title == "image: 2 x 1,024, 0% of it padding"
    assert [row[0] for row in table.rows] == ["elu", "identity"]
    for row in table.rows:
        assert all(cell is not None and "failed" not in cell for cell in row)


def test_on_the_command_line(monkeypatch, capsys):
    """Every option reaches the measurement; the default is the published attentions on three tasks, with one thread."""
    asked = []

    def measured(timings, gears, device, with_baseline):  # noqa: ARG001
        asked.append((timings, gears, with_baseline))
        return yardstick.Table(timings[0].shape, ["Attention", "eager, ms"], [["elu", None]])

    monkeypatch.setattr(yardstick, "measure", measured)
    threads = torch.get_num_threads()
    assert main(["bench", "--yardstick", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "| elu         |           \u2013 |" in printed
    assert "1 thread(s)" in printed
    assert [timings[0].shape for timings, _, _ in asked] == ["listops", "text", "image"]
    rows = [timing.row for timing in asked[0][0]]
    assert rows == ["softmax", "pola", "agent", "elu", "identity"]
    assert asked[0][1:] == (["eager", "compiled"], True)
    words = "--attn elu pola:alpha=5 --task text --gear eager --repeats 3 --threads 2 --batch 4 --set train.lr=1e-4"
    assert main(["bench", "--yardstick", "--no-baseline", "--device", "cpu", *words.split()]) == 0
    timings, gears, with_baseline = asked[-1]
    assert [timing.row for timing in timings] == ["elu", "pola:alpha=5.0", "identity"]
    assert (gears, with_baseline) == (["eager"], False)
    timing = timings[0]
    assert (timing.repeats, timing.threads, timing.batch, timing.overrides) == (3, 2, 4, ("train.lr=1e-4",))
    torch.set_num_threads(threads)


def test_drawn_reviews_are_as_padded_as_real_ones():
    lengths = samples.drawn_text(20_000, yardstick.LENGTHS["text"]).lengths
    assert 0.66 < 1 - lengths.mean() / yardstick.LENGTHS["text"] < 0.70
