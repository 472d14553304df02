"""Time and memory: the measured fields, what a cell's end becomes, records and tables. No time is ever asserted."""

import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path

import pytest

from lra.bench import runner as benching
from lra.bench.idle import busy_cores, device_lock, free_bytes
from lra.bench.measure import measure
from lra.bench.runner import Ask
from lra.bench.workload import Job
from lra.cli import main
from lra.errors import BusyError, RecordError
from lra.report.tables.bench import detail, frame, tables
from lra.results.bench_record import Bench, load, newest, read_benches, save

JOB = Job(
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


@pytest.fixture(autouse=True)
def own_lock(tmp_path, monkeypatch):
    """A bench, or these tests, may be running elsewhere on this machine."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture(scope="module")
def protocol():
    return str(Path(__file__).parent / "tiny.yaml")


@pytest.mark.parametrize("mode", ["training", "forward"])
def test_uniform_lengths(protocol, mode):
    found = measure(dataclasses.replace(JOB, mode=mode, protocol=protocol))
    assert found.status == "done"
    assert (found.length, found.batch, found.row) == (24, 3, "elu")
    assert len(found.seconds) == 3 == len([s for s in found.seconds if s > 0])
    assert found.real_tokens == found.computed_tokens == 3 * 24
    assert all((found.flops, found.peak_bytes, found.held_bytes, found.start_seconds))
    assert found.environment["device"] == "cpu"


def test_training_costs_about_three_times_forward(protocol):
    forward, training = (
        measure(dataclasses.replace(JOB, mode=mode, protocol=protocol)).flops or 0 for mode in ("forward", "training")
    )
    assert 2.5 < training / forward < 3.1


def test_a_tasks_own_lengths(protocol):
    """Real tokens are the rows' own; slices hold hardly any padding; FLOPs grow with the tokens."""
    found = measure(dataclasses.replace(JOB, shape="listops", length=0, batch=8, protocol=protocol))
    assert found.status == "done"
    assert found.length == 29
    assert 8 * 10 < (found.real_tokens or 0) <= (found.computed_tokens or 0) <= 8 * 29


def test_fixed_padding_is_counted(protocol, tmp_path):
    path = tmp_path / "fixed.py"
    path.write_text(
        "from attention_zoo import QKVAttention, register\n"
        "@register('fixed', title='Fixed', padding='fixed')\n"
        "class Fixed(QKVAttention):\n"
        "    def attend(self, q, k, v, keep=None):\n"
        "        return v + q * k\n"
    )
    job = dataclasses.replace(JOB, spec=str(path), row="fixed", shape="listops", length=0, batch=8, protocol=protocol)
    found = measure(job)
    assert found.computed_tokens == 8 * 29


def test_over_budget_is_recorded(protocol):
    found = measure(dataclasses.replace(JOB, budget=1e-9, protocol=protocol))
    assert found.status == "over budget"
    assert found.median is None
    assert "a step took" in found.reason


def test_errors_of_a_mechanism_are_recorded(protocol, tmp_path):
    def end(error):
        path = tmp_path / f"{error.split('(')[0].lower()}.py"
        path.write_text(
            "from attention_zoo import QKVAttention, register\n"
            f"@register('{path.stem}', title='Ends')\n"
            "class Ends(QKVAttention):\n"
            "    def attend(self, q, k, v, keep=None):\n"
            f"        raise {error}\n"
        )
        return measure(dataclasses.replace(JOB, spec=str(path), row=path.stem, protocol=protocol))

    assert end("MemoryError()").status == "out of memory"
    broken = end("RuntimeError('wrong shape')")
    assert (broken.status, broken.reason) == ("failed", "RuntimeError: wrong shape")


def ask(protocol, **changes) -> Ask:
    fields = {
        **{"attentions": ["elu"], "lengths": [16], "tasks": [], "modes": ["training"], "batch": 2, "gear": "auto"},
        **{"device": "cpu", "protocol": protocol, "overrides": (), "data_dir": "", "repeats": 2, "budget": 5.0},
        **{"memory": 0.0, "threads": 1},
    }
    return Ask(**fields | changes)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and measured on Linux")
def test_out_of_memory_is_a_result_and_the_others_go_on(protocol, tmp_path):
    """In processes of their own: a dense matrix of 20,000 x 20,000 does not fit into 300 MB, 16 x 16 does."""
    path = tmp_path / "dense.py"
    path.write_text(
        "from attention_zoo import QKVAttention, register\n"
        "@register('dense', title='Dense', cost='O(N^2)')\n"
        "class Dense(QKVAttention):\n"
        "    def attend(self, q, k, v, keep=None):\n"
        "        return (q @ k.transpose(-2, -1)).softmax(-1) @ v\n"
    )
    asked = ask(protocol, attentions=[str(path)], lengths=[20_000, 16], memory=0.3)
    found = {bench.length: bench for bench in benching.run(asked, tmp_path / "out")}
    assert list(found) == [16, 20_000]
    assert (found[16].status, found[20_000].status) == ("done", "out of memory")
    assert (found[16].held_bytes or 0) > 50_000_000  # the child's own, Python and torch included
    again, problems = read_benches([tmp_path / "out"])
    assert not problems
    assert {bench.length: bench for bench in again} == found


def test_a_length_over_the_budget_spares_the_longer_ones(protocol, tmp_path, monkeypatch):
    tried = []

    def slow(job):
        tried.append(job.length)
        return made(status="over budget" if job.length > 16 else "done", length=job.length)

    monkeypatch.setattr(benching, "measure_apart", slow)
    found = list(benching.run(ask(protocol, lengths=[64, 16, 32]), tmp_path))
    assert tried == [16, 32]
    assert [bench.status for bench in found] == ["done", "over budget", "over budget"]
    assert "32 tokens" in found[2].reason


def test_a_process_that_is_stopped(protocol, monkeypatch):
    """Killed for memory, out of time, or ended by a mistake: a record each."""
    job = dataclasses.replace(JOB, protocol=protocol)
    monkeypatch.setattr(benching, "GRACE_SECONDS", -9.9)
    assert benching.measure_apart(job).status == "over budget"
    monkeypatch.setattr(benching, "GRACE_SECONDS", 60)
    for code, status in (("os.kill(os.getpid(), 9)", "out of memory"), ("sys.exit('lost')", "failed")):
        monkeypatch.setattr(benching, "COMMAND", [sys.executable, "-c", f"import os, sys; {code}"])
        found = benching.measure_apart(job)
        assert found.status == status
    assert found.reason == "lost"


def test_one_bench_on_a_device():
    with device_lock("cpu"), pytest.raises(BusyError, match="another bench"), device_lock("cpu"):
        pass
    with device_lock("cpu"):
        pass


def test_the_machine_is_looked_at():
    assert 0 <= busy_cores(0.05) <= (os.cpu_count() or 1) + 1e-6
    assert free_bytes() > 0


def test_files_in_a_containers_memory_are_given_back(tmp_path, monkeypatch):
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("1000\n")
    (group / "memory.current").write_text("900\n")
    (group / "memory.stat").write_text("anon 300\ninactive_file 500\n")
    monkeypatch.setattr("lra.bench.idle.Path", lambda name: tmp_path / name.lstrip("/"))
    assert free_bytes() == 600


def test_records_are_never_replaced(tmp_path):
    first, second = made(), made(seconds=[0.5])
    paths = [save(bench, tmp_path) for bench in (first, second, first)]
    assert paths[0] == paths[2] != paths[1]
    assert [load(path) for path in paths] == [first, second, first]
    assert all(set(path.stem) <= set("abcdefghijklmnopqrstuvwxyz0123456789._=-") for path in paths)


def test_reading(tmp_path):
    """A folder, its `bench` folder, a file; what is no bench record is passed over, what is damaged is told."""
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


def test_tables():
    """Time, memory, both published forms; what could not be measured says why."""
    benches = [
        made(row="softmax", length=1000, seconds=[0.8]),
        made(row="softmax", length=4000, status="out of memory", seconds=[], peak_bytes=None, held_bytes=None),
        made(length=1000),
        made(length=4000, seconds=[0.4]),
        made(shape="listops", length=1999, seconds=[0.36]),
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


def test_figures_of_other_machines_stay_apart():
    other = {"device": "cpu", "device_name": "Other", "threads": 1}
    text = tables([made(length=256), made(length=256, environment=other, row="relu")])
    assert text.count("## ") == 2


def test_command(protocol, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benching, "measure_apart", measure)
    arguments = ["bench", "--attn", "elu", "mean", "--lengths", "16", "--mode", "forward", "--repeats", "2"]
    out = tmp_path / "runs" / "bench"
    assert main([*arguments, "--protocol", protocol, "--device", "cpu", "--budget", "5", "--out", str(out)]) == 0
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
        (["--attn", "elu", "--task", "listops", "--lengths", "8"], "own lengths"),
        (["--attn", "elu", "--published", "--lengths", "8"], "own: leave out"),
        (["--attn", "elu", "--repeats", "0"], "--repeats must be positive"),
        (["--attn", "elu", "--lengths", "0"], "--lengths must be positive"),
        (["--attn", "elu", "--mode", "backward"], "invalid choice"),
    ],
)
def test_mistakes(arguments, message, capsys, tmp_path):
    assert main(["bench", *arguments, "--device", "cpu", "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
