"""Time and memory: measured fields, how a measurement ends, records and tables. No test asserts a time."""

import dataclasses
import json
import os
import sys
from types import SimpleNamespace

import pytest
import torch

from lra.bench import runner as benching
from lra.bench import workload, yardstick
from lra.bench.idle import alone_on, device_lock
from lra.bench.measure import measure
from lra.bench.runner import BenchRequest
from lra.bench.workload import Timing
from lra.cli import main
from lra.errors import BusyError, CountError, RecordError
from lra.report.tables.bench import detail, frame, tables
from lra.results.bench_record import Bench, load, newest, read_benches, save
from lra.training.step import Step

pytestmark = pytest.mark.usefixtures("quiet_machine")
CPU = torch.device("cpu")
TIMING = Timing(
    spec="elu", row="elu", shape="uniform", length=24, batch=3, mode="training", device="cpu", repeats=3, budget=5
)


def made(**changes) -> Bench:
    fields = {
        **{"status": "done", "row": "elu", "shape": "uniform", "protocol": "standard", "length": 1024, "batch": 32},
        **{"mode": "training", "gear": "eager", "precision": "float32", "attention": {"name": "elu"}, "model": {}},
        **{"seconds": [0.2, 0.1, 0.3, 0.25, 0.15], "steps": 1, "real_tokens": 1000.0, "computed_tokens": 1100.0},
        **{"flops": 2_000_000, "peak_bytes": 3_000_000_000, "held_bytes": 1_000_000_000},
        **{"environment": {"device": "cpu", "device_name": "Core", "threads": 1}, "created": "2026-01-01T00:00:00"},
    }
    return Bench(**fields | changes)


@pytest.mark.parametrize("mode", ["training", "forward"])
def test_uniform_lengths(tiny, mode):
    found = measure(dataclasses.replace(TIMING, mode=mode, protocol=tiny))
    assert found.status == "done"
    assert (found.length, found.batch, found.row) == (24, 3, "elu")
    assert len(found.seconds) == 3 == len([s for s in found.seconds if s > 0])
    assert found.real_tokens == found.computed_tokens == 3 * 24
    assert all((found.flops, found.peak_bytes, found.held_bytes, found.start_seconds))
    assert found.environment["device"] == "cpu"


def test_training_costs_about_three_times_forward(tiny):
    forward, training = (
        measure(dataclasses.replace(TIMING, mode=mode, protocol=tiny)).flops or 0 for mode in ("forward", "training")
    )
    assert 2.5 < training / forward < 3.1


def test_a_tasks_own_lengths(tiny):
    """Rows have the lengths of the task; micro-batches hold little padding; FLOPs grow with the tokens."""
    found = measure(dataclasses.replace(TIMING, shape="listops", length=0, batch=8, protocol=tiny))
    assert found.status == "done"
    assert found.length == 29
    assert 8 * 10 < (found.real_tokens or 0) <= (found.computed_tokens or 0) <= 8 * 29


def test_what_is_timed_needs_no_ladder(tiny, monkeypatch):
    """A ladder can take minutes to compute."""
    monkeypatch.setattr("tasks.Task.ladder", lambda *_: pytest.fail("computed"))
    timing = dataclasses.replace(TIMING, shape="listops", length=0, protocol=tiny)
    assert workload.prepare(timing, workload.resolve(timing)).evaluated == (70, 90)


def test_no_step_is_beyond_the_last_of_the_run(tiny, monkeypatch):
    """There the learning rate would be negative, and the loss would grow until it is not finite."""
    numbers, real = [], Step.__call__

    def spy(step, samples, rows, number):
        numbers.append(number)
        return real(step, samples, rows, number)

    monkeypatch.setattr(Step, "__call__", spy)
    timing = dataclasses.replace(TIMING, shape="listops", length=0, protocol=tiny, overrides=("train.steps=2",))
    assert measure(dataclasses.replace(timing, budget=0.5)).status == "done"
    contender = yardstick.ours(yardstick.prepare(timing), "eager", CPU)
    for number in range(3):
        contender.round(number, CPU)
    assert numbers[:5] == [0, 1, 0, 1, 0]
    assert numbers[-3:] == [0, 1, 0]
    assert max(numbers) == 1


def test_fixed_padding_is_counted(tiny, tmp_path):
    path = tmp_path / "fixed.py"
    path.write_text(
        "from attention_zoo import QKVAttention, register\n"
        "@register('fixed', title='Fixed', padding='fixed')\n"
        "class Fixed(QKVAttention):\n"
        "    def attend(self, q, k, v, keep=None):\n"
        "        return v + q * k\n"
    )
    timing = dataclasses.replace(TIMING, spec=str(path), row="fixed", shape="listops", length=0, batch=8, protocol=tiny)
    found = measure(timing)
    assert found.computed_tokens == 8 * 29


def test_over_budget_is_recorded(tiny):
    found = measure(dataclasses.replace(TIMING, budget=1e-9, protocol=tiny))
    assert found.status == "over budget"
    assert found.median is None
    assert "a step took" in found.reason


def test_every_reason_is_kept(tiny, monkeypatch):
    """Here the measurement is too slow, and its operations cannot be counted."""

    def refuse(*_):
        raise CountError("FLOPs of elu cannot be counted")

    monkeypatch.setattr("lra.bench.workload.count_flops", refuse)
    found = measure(dataclasses.replace(TIMING, budget=1e-9, protocol=tiny))
    assert found.flops is None
    assert "a step took" in found.reason
    assert "FLOPs of elu cannot be counted" in found.reason


def test_errors_of_a_mechanism_are_recorded(tiny, tmp_path):
    def end(error):
        path = tmp_path / f"{error.split('(')[0].lower()}.py"
        path.write_text(
            "from attention_zoo import QKVAttention, register\n"
            f"@register('{path.stem}', title='Ends')\n"
            "class Ends(QKVAttention):\n"
            "    def attend(self, q, k, v, keep=None):\n"
            f"        raise {error}\n"
        )
        return measure(dataclasses.replace(TIMING, spec=str(path), row=path.stem, protocol=tiny))

    assert end("MemoryError()").status == "out of memory"
    broken = end("RuntimeError('wrong shape')")
    assert (broken.status, broken.reason) == ("failed", "RuntimeError: wrong shape")


def request_of(tiny, attentions=("elu",), lengths=(16,), **changes) -> BenchRequest:
    template = Timing(batch=2, device="cpu", protocol=tiny, repeats=2, budget=5.0, threads=1, **changes)
    return BenchRequest(attentions=list(attentions), lengths=list(lengths), template=template)


def test_every_timing_is_the_template_but_for_what_varies(tiny):
    request = dataclasses.replace(
        request_of(tiny, ["elu", "pola:alpha=5"], [32, 16], overrides=("model.layers=1",)),
        modes=["forward", "training"],
        gears=["eager", "compiled"],
    )
    timings = benching.plan(request)
    varied = [(timing.row, timing.mode, timing.gear, timing.length) for timing in timings]
    assert varied[:3] == [
        ("elu", "forward", "eager", 16),
        ("elu", "forward", "eager", 32),
        ("elu", "forward", "compiled", 16),
    ]
    assert len(set(varied)) == 16
    same = [field.name for field in dataclasses.fields(Timing)]
    same = [name for name in same if name not in ("spec", "row", "mode", "gear", "shape", "length", "memory")]
    for timing in timings:
        assert [getattr(timing, name) for name in same] == [getattr(request.template, name) for name in same]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and measured on Linux")
def test_out_of_memory_is_a_result_and_the_others_go_on(tiny, tmp_path):
    """Each measurement has its own process: a 20,000 x 20,000 matrix does not fit into 300 MB, a 16 x 16 one does."""
    path = tmp_path / "dense.py"
    path.write_text(
        "from attention_zoo import QKVAttention, register\n"
        "@register('dense', title='Dense', cost='O(N^2)')\n"
        "class Dense(QKVAttention):\n"
        "    def attend(self, q, k, v, keep=None):\n"
        "        return (q @ k.transpose(-2, -1)).softmax(-1) @ v\n"
    )
    request = request_of(tiny, [str(path)], [20_000, 16], memory=300_000_000)
    found = {bench.length: bench for bench in benching.measure_all(request, tmp_path / "out")}
    assert list(found) == [16, 20_000]
    assert (found[16].status, found[20_000].status) == ("done", "out of memory")
    assert (found[16].held_bytes or 0) > 50_000_000  # the memory of the child process, Python and torch included
    again, problems = read_benches([tmp_path / "out"])
    assert not problems
    assert {bench.length: bench for bench in again} == found


def test_a_length_over_the_budget_spares_the_longer_ones(tiny, tmp_path, monkeypatch):
    tried = []

    def slow(timing):
        tried.append(timing.length)
        return made(status="over budget" if timing.length > 16 else "done", length=timing.length)

    monkeypatch.setattr(benching, "measure_apart", slow)
    found = list(benching.measure_all(request_of(tiny, lengths=[64, 16, 32]), tmp_path))
    assert tried == [16, 32]
    assert [bench.status for bench in found] == ["done", "over budget", "over budget"]
    assert "32 tokens" in found[2].reason


def test_a_process_that_is_stopped(tiny, monkeypatch):
    """A process that is killed for memory, runs out of time or fails has a record."""
    timing = dataclasses.replace(TIMING, protocol=tiny)
    monkeypatch.setattr(benching, "GRACE_SECONDS", -9.9)
    assert benching.measure_apart(timing).status == "over budget"
    monkeypatch.setattr(benching, "GRACE_SECONDS", 60)
    for code, status in (("os.kill(os.getpid(), 9)", "out of memory"), ("sys.exit('lost')", "failed")):
        monkeypatch.setattr(benching, "COMMAND", [sys.executable, "-c", f"import os, sys; {code}"])
        found = benching.measure_apart(timing)
        assert found.status == status
    assert found.reason == "lost"


def test_one_bench_on_a_device():
    with device_lock(CPU), pytest.raises(BusyError, match="another bench"), device_lock(CPU):
        pass
    with device_lock(CPU):
        pass


def test_other_programs_are_looked_for_once_the_device_is_held(tiny, tmp_path, monkeypatch, capsys):
    """Before that, the busy cores may be those of the other bench, which is an error of its own."""
    monkeypatch.setattr("lra.bench.idle.busy_cores", lambda: 9.0)
    monkeypatch.setattr(benching, "measure_apart", lambda _: made())
    request = request_of(tiny)
    with device_lock(CPU):
        for measurement in (benching.measure_all(request, tmp_path), yardstick.measure_all(request)):
            with pytest.raises(BusyError, match="another bench"):
                next(measurement)
    assert capsys.readouterr().err == ""
    (bench,) = benching.measure_all(request, tmp_path)
    assert bench.environment["alone"] is False
    assert "the machine is not idle (9.0 cores are busy): times will be too long" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("uuid", "others", "words"),
    [
        ("5b1a-77", [], ""),
        ("5b1a-77", ["GPU-90c4-12, 41", "GPU-90c4-12, 42"], ""),
        ("5b1a-77", ["GPU-90c4-12, 41", "GPU-5b1a-77, 42"], "(1 other process on the GPU)"),
        ("5b1a-77", ["GPU-5b1a-77, 41", "GPU-5b1a-77, 42"], "(2 other processes on the GPU)"),
        ("", ["GPU-90c4-12, 41", "GPU-5b1a-77, 42"], "(2 other processes on the GPU)"),  # torch knows no UUID
    ],
)
def test_only_processes_on_the_same_gpu_count(uuid, others, words, monkeypatch, capsys):
    lines = "\n".join([f"GPU-5b1a-77, {os.getpid()}", *others])
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: SimpleNamespace(**{"uuid": uuid} if uuid else {}))
    monkeypatch.setattr("subprocess.run", lambda *_, **__: SimpleNamespace(stdout=lines))
    assert alone_on(torch.device("cuda", 1)) is (words == "")
    assert words in capsys.readouterr().err


def test_records_are_never_replaced(tmp_path):
    first, second = made(), made(seconds=[0.5])
    paths = [save(bench, tmp_path) for bench in (first, second, first)]
    assert paths[0] == paths[2] != paths[1]
    assert [load(path) for path in paths] == [first, second, first]
    assert all(set(path.stem) <= set("abcdefghijklmnopqrstuvwxyz0123456789._=-") for path in paths)


def test_records_are_read_from_folders_and_files(tmp_path):
    """Reads a folder, its `bench` folder or a file; ignores other files and reports damaged ones."""
    save(made(created="2026-01-02"), tmp_path / "bench")
    newer = save(made(created="2026-01-03", seconds=[1.0]), tmp_path)
    (tmp_path / "listops-elu.json").write_text("{}")
    (tmp_path / "bench-broken.json").write_text("{")
    (tmp_path / "bench-kind.json").write_text(json.dumps({"schema_version": 1, "kind": "run"}))
    found, problems = read_benches([tmp_path, newer])
    assert [bench.created for bench in found] == ["2026-01-02", "2026-01-03"]
    assert len(problems) == 2
    assert [bench.median for bench in newest(found)] == [1.0]
    for content in ({"schema_version": 2, "kind": "bench"}, dataclasses.asdict(made()) | {"seconds": ["x"]}):
        (tmp_path / "bench-x.json").write_text(json.dumps(content))
        with pytest.raises(RecordError):
            load(tmp_path / "bench-x.json")


def test_median_and_quartiles():
    assert made().median == 0.2
    assert made().quartiles == (0.15, 0.25)
    assert made(seconds=[0.5]).quartiles == (0.5, 0.5)
    assert made(seconds=[]).quartiles is None
    assert made().step_bytes == 2_000_000_000
    assert made().per_second(1000.0) == pytest.approx(5000)


def test_the_tables_have_both_published_forms():
    """Tables of time and memory in both published forms; a cell without a measurement says why."""
    benches = [
        made(row="softmax", length=1000, seconds=[0.8]),
        made(row="softmax", length=4000, status="out of memory", seconds=[], peak_bytes=None, held_bytes=None),
        made(length=1000),
        made(length=4000, seconds=[0.4]),
        made(shape="listops", length=1999, seconds=[0.36], run_steps=20_000.0),
    ]
    text = tables(benches)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert ["softmax", "800.0 (800.0\u2013800.0)", "OOM"] in lines  # ms
    assert ["elu", "2,000", "2,000"] in lines  # MB
    assert ["softmax", "1.25 (1.0x)", "\u2013", "\u2013", "OOM"] in lines
    assert ["elu", "5 (4.0x)", "\u2013", "\u2013", "2.5"] in lines  # softmax has no time at 4K to compare with
    assert ["elu", "2.00", "\u2013", "\u2013", "2.00"] in lines  # GB
    assert ["elu", "5.00"] in lines  # hours: 50,000 x 0.36 s
    assert "batch 32" in text
    assert "Core, 1 thread" in text
    assert "1.10" in detail(benches)
    table = frame(benches)
    assert table["median_seconds"].tolist()[2] == 0.2
    assert set(table["environment_device_name"]) == {"Core"}


def test_a_column_of_thousands_is_of_one_length():
    """The length of most rows, so that 4,096 tokens are not compared with 4,000."""
    both = [made(row=row, length=4096, seconds=[0.8]) for row in ("softmax", "elu", "relu")]
    both += [made(row=row, length=4000, seconds=[0.1]) for row in ("elu", "softmax")]
    both += [made(row="softmax", length=1000), made(length=1000)]
    for benches in (both, both[::-1]):
        text = tables(benches)
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
        assert ["elu", "5 (1.0x)", "\u2013", "\u2013", "1.25 (1.0x)"] in lines


def test_compile_seconds_are_in_the_table():
    """For every gear that compiles; the first eager step only loads libraries."""
    words = "Training, seconds of the first step"
    eager, auto = made(start_seconds=1.5), made(start_seconds=1.5, gear="auto")
    assert words not in tables([eager, auto])
    chosen = made(start_seconds=44.04, gear="auto", environment={"device": "cpu", "gear": "compiled"})
    for bench in (made(start_seconds=44.04, gear="compiled"), chosen):
        text = tables([eager, bench, made(row="relu", gear=bench.gear, environment=bench.environment)])
        assert words in text
        lines = [line.strip("|").split() for line in text[text.index(words) :].splitlines()]
        assert ["elu", "|", "44.0"] in lines
        assert ["relu", "|", "\u2013"] in lines


def test_batches_of_a_task_are_columns():
    """Each batch has a column of its own, and hours are given only for steps that a run takes."""
    small, large = (made(shape="listops", batch=batch, seconds=[seconds]) for batch, seconds in ((4, 0.1), (32, 0.6)))
    text = tables([large, small, made(row="pola", shape="listops", batch=32, seconds=[0.9])])
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert ["Attention", "ListOps, batch 4", "ListOps, batch 32"] in lines
    assert ["elu", "100.0 (100.0\u2013100.0)", "600.0 (600.0\u2013600.0)"] in lines
    assert ["pola", "\u2013", "900.0 (900.0\u2013900.0)"] in lines
    assert "hours for" not in text


@pytest.mark.parametrize("status", ["out of memory", "failed", "over budget"])
def test_a_task_that_could_not_be_measured_has_a_record(tmp_path, status):
    """Its length may be unknown."""
    lost = {"status": status, "seconds": [], "peak_bytes": None, "held_bytes": None}
    save(made(shape="listops", length=0, **lost), tmp_path)
    (bench,), problems = read_benches([tmp_path])
    assert (bench.status, problems) == (status, [])
    save(made(length=0, **lost), tmp_path)
    save(made(shape="listops", length=0), tmp_path)
    assert len(read_benches([tmp_path])[1]) == 2


def test_figures_of_other_machines_stay_apart():
    other = {"device": "cpu", "device_name": "Other", "threads": 1}
    text = tables([made(length=256), made(length=256, environment=other, row="relu")])
    assert text.count("## ") == 2


def test_the_command_prints_and_keeps_what_it_measured(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benching, "measure_apart", measure)
    arguments = ["bench", "--attn", "elu", "mean", "--lengths", "16", "--mode", "forward", "--repeats", "2"]
    out = tmp_path / "runs" / "bench"
    assert main([*arguments, "--protocol", tiny, "--device", "cpu", "--budget", "5", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "| mean" in printed
    assert len(list(out.glob("bench-*.json"))) == 2
    assert (out / "bench.md").read_text().startswith("# Time and memory")
    assert (out / "bench.csv").read_text().count("\n") == 3
    assert len(read_benches([tmp_path / "runs"])[0]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--attn", "pole"], "did you mean"),
        (["--attn", "elu", "--task", "listops", "--lengths", "8"], "task's own lengths"),
        (["--attn", "elu", "--published", "--lengths", "8"], "own lengths: leave out"),
        (["--attn", "elu", "--repeats", "0"], "--repeats must be positive"),
        (["--attn", "elu", "--lengths", "0"], "--lengths must be positive"),
        (["--attn", "elu", "--lengths", "16", "--set", "model.grid=true"], "a sequence of --lengths has none"),
        (["--attn", "elu", "--memory", "-0.5"], "--memory must be positive"),
        (["--attn", "elu", "--mode", "backward"], "invalid choice"),
        (["--lengths", "8"], "bench needs --attn"),
        (["--yardstick", "--lengths", "8"], "leave out --lengths"),
        (["--yardstick", "--mode", "forward"], "times training steps"),
        (["--yardstick", "--task", "pathfinder"], "--yardstick does not measure 'pathfinder'"),
        (["--yardstick", "--attn", "pole"], "did you mean"),
        (["--attn", "elu", "--no-baseline"], "--no-baseline belongs to --yardstick"),
    ],
)
def test_mistakes(arguments, message, capsys, tmp_path):
    assert main(["bench", *arguments, "--device", "cpu", "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
