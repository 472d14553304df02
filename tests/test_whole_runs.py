"""The time of whole runs on this machine: timings of several processes, hours, tables and `list --long`."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tasks
from lra.bench import runner as benching
from lra.bench import samples, workload
from lra.bench.measure import measure
from lra.bench.runner import BenchRequest
from lra.bench.workload import Timing
from lra.cli import main
from lra.commands.list import BENCHES, NO_HOURS, hours_here, long_listing
from lra.report.tables.bench import detail, tables
from lra.results.bench_record import Bench, save
from lra.results.machine import environment
from lra.results.whole_runs import whole_runs
from lra.training.cores import affinity, physical_cores

pytestmark = pytest.mark.usefixtures("quiet_machine")
TIMING = Timing(
    spec="elu", row="elu", shape="listops", batch=8, device="cpu", repeats=2, budget=5, threads=1, processes=2
)


def made(**changes) -> Bench:
    """A bench record of a step of a whole run on this machine."""
    about = environment(torch.device("cpu")) | {"threads": 1, "cores": physical_cores(affinity()), "gear": "compiled"}
    fields = {
        **{"status": "done", "row": "elu", "shape": "listops", "protocol": "standard", "length": 2000, "batch": 32},
        **{"mode": "training", "gear": "auto", "precision": "float32", "attention": {"name": "elu"}, "model": {}},
        **{"seconds": [0.5, 0.4, 0.6], "steps": 1, "run_steps": 20_000, "real_tokens": 1000.0, "processes": 2},
        **{"start_seconds": 9.04, "environment": about, "created": "2026-01-01T00:00:00"},
    }
    return Bench(**fields | changes)


def timings_of_a_run(**changes) -> list[Bench]:
    """The records of `bench --hours` for one attention on one task, a run of 2.5 hours."""
    return [
        made(processes=1, cold=True, seconds=[1.5], start_seconds=40.04, **changes),
        made(processes=1, seconds=[0.8], start_seconds=7.04, **changes),
        made(seconds=[0.3], run_steps=21_600, **changes),  # 1.8 hours
        made(mode="forward", seconds=[0.2], run_steps=12_600, **changes),  # 0.7 hours
    ]


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["training", "forward"])
def test_processes_share_a_step(tiny, mode):
    """Together they compute the tokens of one process; process 0 determines the number of steps."""
    timing = replace(TIMING, protocol=tiny, shape="uniform", length=16, mode=mode)
    shared, alone = benching.measure_apart(timing), measure(replace(timing, processes=1))
    assert (shared.status, shared.reason, len(shared.seconds)) == ("done", "", 2)
    assert (shared.processes, shared.environment["processes"]) == (2, 2)
    assert (alone.processes, alone.environment["processes"]) == (1, 1)
    assert shared.real_tokens == shared.computed_tokens == alone.real_tokens == alone.computed_tokens == 8 * 16
    assert shared.flops == alone.flops


@pytest.mark.parametrize(
    ("end", "status", "reason"),
    [
        ("os.kill(os.getpid(), 9)", "out of memory", "the system stopped it"),
        ("sys.exit('lost')", "failed", "lost"),
    ],
)
def test_one_process_that_ends_ends_the_timing(tiny, monkeypatch, end, status, reason):
    """The other process would wait for hours; the way in which the first one ended is the result."""
    code = f"import os, sys, time; rank = int(sys.argv[-1]); time.sleep(60) if rank == 0 else {end}"
    monkeypatch.setattr(benching, "COMMAND", [sys.executable, "-c", code])
    monkeypatch.setattr("lra.bench.processes.GRACE", 0.3)
    ended = benching.measure_apart(replace(TIMING, protocol=tiny))
    assert (ended.status, ended.reason, ended.processes) == (status, reason, 2)


def test_the_process_that_failed_first_is_the_cause(tiny, tmp_path):
    """Process 0 only reports a closed connection, which is not the cause."""
    path = tmp_path / "fails.py"
    path.write_text(
        "import torch.distributed as dist\n"
        "from attention_zoo import QKVAttention, register\n"
        "@register('fails', title='Fails')\n"
        "class Fails(QKVAttention):\n"
        "    calls = 0\n"
        "    def attend(self, q, k, v, keep=None):\n"
        "        self.calls += 1\n"
        "        if dist.get_rank() and self.calls > 4:\n"
        "            raise RuntimeError('wrong shape')\n"
        "        return v + q * k\n"
    )
    timing = replace(TIMING, spec=str(path), row="fails", protocol=tiny, shape="uniform", length=16)
    ended = benching.measure_apart(timing)
    assert (ended.status, ended.reason) == ("failed", "RuntimeError: wrong shape")


def test_processes_that_take_too_long(tiny, monkeypatch):
    monkeypatch.setattr(benching, "GRACE_SECONDS", -9.9)
    assert benching.measure_apart(replace(TIMING, protocol=tiny)).status == "over budget"


def plan_of(tiny: str, **changes) -> list[Timing]:
    template = Timing(**{"device": "cpu", "protocol": tiny, "whole_run": True, "processes": 0} | changes)
    request = BenchRequest(attentions=["elu", "mean"], tasks=["listops", "pathfinder"], template=template)
    return benching.plan(request)


def test_what_is_timed_of_a_whole_run(tiny, monkeypatch):
    """Training in one process and in all, evaluation in all, a cold start; on one core nothing is timed twice."""
    monkeypatch.setattr(benching, "usable_cores", lambda: 4)
    timings = plan_of(tiny)
    varied = [(timing.shape, timing.mode, timing.processes, timing.cold) for timing in timings]
    listops = [("listops", "training", 1, True), ("listops", "training", 1, False)]
    listops += [("listops", "training", 4, False), ("listops", "forward", 4, False)]
    assert varied == 2 * [*listops, *(("pathfinder", *rest) for _, *rest in listops[1:])]
    assert {(timing.threads, timing.batch, timing.gear) for timing in timings} == {(1, 0, "auto")}
    assert {timing.processes for timing in plan_of(tiny, processes=3)} == {1, 3}
    assert {timing.processes for timing in plan_of(tiny, processes=1)} == {1}
    monkeypatch.setattr(benching, "usable_cores", lambda: 1)
    assert len(plan_of(tiny)) == 2 * (3 + 2)


def test_a_compilers_cache_is_empty_once(tiny, tmp_path, monkeypatch):
    """The cold timing begins with an empty cache, which the next timings of the same attention and task use."""
    asked = []

    def measured(timing: Timing) -> Bench:
        asked.append((timing.shape, timing.cache, timing.cold))
        if timing.cold:
            assert not list(Path(timing.cache).iterdir())
        return made()

    monkeypatch.setattr(benching, "measure_apart", measured)
    monkeypatch.setattr(benching, "usable_cores", lambda: 1)
    template = Timing(device="cpu", protocol=tiny, whole_run=True, processes=0)
    request = BenchRequest(attentions=["elu", "mean"], tasks=["listops", "pathfinder"], template=template)
    found = list(benching.measure_all(request, tmp_path))
    assert found[0].environment["cores"] == physical_cores(affinity())
    first, second = asked[0][1], asked[5][1]
    assert first
    assert second not in ("", first)
    assert [cache for _, cache, _ in asked] == [first] * 3 + [""] * 2 + [second] * 3 + [""] * 2
    assert not Path(first).exists()


@pytest.mark.slow
def test_steps_of_a_whole_run(tiny):
    """Evaluations count by samples: three of 70, then the test split of 90 with the last and with the best weights."""
    timing = replace(TIMING, protocol=tiny, processes=1, batch=0, whole_run=True)
    training, forward = (measure(replace(timing, mode=mode)) for mode in ("training", "forward"))
    assert (training.run_steps, training.batch) == (60, 8)
    assert forward.run_steps == (3 * 70 + 2 * 90) / 8
    assert training.hours == pytest.approx(60 * (training.median or 0) / 3600)
    assert training.environment["gear"] == "eager"  # a run this short never compiles
    assert measure(replace(timing, batch=4)).hours is None  # no run has such a step


@pytest.mark.parametrize("task", samples.LIKE)
def test_samples_of_each_task_are_there_without_its_data(task, tiny, monkeypatch):
    def missing(*_):
        raise tasks.MissingDataError("no data")

    monkeypatch.setattr(samples, "whole", missing)
    timing = replace(TIMING, shape=task, protocol=tiny if task == "listops" else "standard", whole_run=True)
    work = workload.prepare(timing, workload.resolve(timing))
    assert all(rows > 0 for rows in work.evaluated)
    assert len(work.samples.labels) >= 2 * 8
    assert work.spec.length >= work.samples.lengths.max()
    if work.samples.pairs is not None:
        assert work.samples.pairs.max() < len(work.samples.lengths)


def test_hours_are_steps_times_seconds():
    (runs,) = whole_runs([*timings_of_a_run(), made(row="mean")]).values()
    whole, partial = runs
    assert whole.hours == pytest.approx(2.5)
    assert partial.hours is None  # no evaluation was timed
    assert made().hours == pytest.approx(20_000 * 0.5 / 3600)
    assert made(run_steps=0.0).hours is None


def test_the_latest_measurement_counts():
    newer = [replace(bench, created="2026-02-01", seconds=[0.1]) for bench in timings_of_a_run()]
    fewer = [replace(bench, processes=1, created="2026-03-01") for bench in timings_of_a_run()[2:]]
    for benches, hours in ((newer, 3_420 / 3600), ([*newer, *fewer], 2.5)):
        (runs,) = whole_runs([*timings_of_a_run(), *benches]).values()
        assert [run.hours for run in runs] == [pytest.approx(hours)]


def test_the_number_of_processes_is_that_of_the_latest_evaluation():
    """Also where this number was timed before, with another batch."""
    again = {"mode": "forward", "seconds": [0.1], "run_steps": 36_000}
    benches = [*timings_of_a_run(), made(**again, processes=1, created="2026-02-01")]
    benches.append(made(**again, processes=2, batch=16, created="2026-03-01"))
    (runs,) = whole_runs(benches).values()
    assert [run.evaluation for run in runs] == [benches[-1]]


def test_an_ordinary_bench_leaves_the_hours():
    """A step of an ordinary bench has the same sizes, but is no step of a run."""
    later = replace(timings_of_a_run()[-1], run_steps=0.0, seconds=[9.0], created="2026-04-01")
    (runs,) = whole_runs([*timings_of_a_run(), later]).values()
    assert [run.hours for run in runs] == [pytest.approx(2.5)]


def test_tables_of_whole_runs():
    """Tables of the start, hours and tokens per second; a cold timing counts only as a start."""
    text = tables([*timings_of_a_run(), *timings_of_a_run(shape="image")[1:], made(row="mean", processes=1)])
    assert ["elu", "40.0", "7.0", "2.5", "2.5", "5"] in cells(text)
    assert ["mean", "\N{EN DASH}", "\N{EN DASH}", "\N{EN DASH}", "\N{EN DASH}", "\N{EN DASH}"] in cells(text)
    assert ["elu", "1,250 / 3,333", "1,250 / 3,333"] in cells(text)
    assert "Whole runs of standard: compiled, float32" in text
    assert "2 processes of 1 thread" in text
    assert "1 thread in each of 2 processes" in text
    assert "1,500.0" not in text
    assert "training, empty compiler's cache" in detail(timings_of_a_run())
    assert "training, 2 processes" in detail(timings_of_a_run())
    assert "Whole runs" not in tables([made(), made(run_steps=0.0, mode="forward")])


def test_hours_in_the_long_list(tmp_path, monkeypatch):
    """Hours are those measured on this machine, under the standard protocol, and last."""
    few = ["softmax", "elu", "pola"]  # measuring their sizes takes one second, for all mechanisms ten
    monkeypatch.setattr("attention_zoo.names", lambda family="": few if family in ("", "linear") else [])
    assert long_listing(tmp_path).endswith(NO_HOURS)
    elsewhere = made().environment | {"device_name": "Other"}
    for bench in [
        *timings_of_a_run(),
        *timings_of_a_run(environment=elsewhere, row="softmax"),
        *timings_of_a_run(protocol="skyformer", row="pola"),
    ]:
        save(bench, tmp_path / "bench")
    hours = pytest.approx(2.5, abs=0.05)
    assert hours_here(tmp_path) == {"standard": {"listops": {"elu": hours}}, "skyformer": {"listops": {"pola": hours}}}
    lines = long_listing(tmp_path).splitlines()
    place = lines[0].index("ListOps, h")
    hours = {line.split()[0]: line[place : place + 10].strip() for line in lines[1 : lines.index("")]}
    assert hours["elu"] == "2.5"
    assert {word for name, word in hours.items() if name != "elu"} == {"\N{EN DASH}"}
    assert "hours of a standard run on this machine" in lines[-1]


def test_hours_of_the_asked_protocol(tmp_path, monkeypatch, capsys):
    """`--dry-run` uses hours measured under the runs' protocol, and says how to measure missing ones."""
    (tmp_path / "mine.yaml").write_text("base: standard\ntrain:\n  lr: 1e-3\n")
    monkeypatch.chdir(tmp_path)
    for bench in timings_of_a_run(protocol="mine"):
        save(bench, BENCHES / "bench")
    words = ["--attn", "elu", "pola", "--task", "listops", "--seed", "0", "--dry-run"]
    assert main([*words, "--protocol", "mine.yaml"]) == 0
    said = capsys.readouterr().out
    assert "about 2 h 30 min left" in said
    assert "measure them here: python run_lra.py bench --hours --attn pola --protocol mine.yaml" in said
    assert main(words) == 0
    assert "measure them here: python run_lra.py bench --hours --attn elu pola\n" in capsys.readouterr().out
    assert main([*words, "--set", "train.lr=2e-3"]) == 0
    assert "bench --hours --attn elu pola --set train.lr=2e-3" in capsys.readouterr().out
    assert main([*words, "--protocol", "quick"]) == 0
    assert "measure" not in capsys.readouterr().out, "measuring takes longer than such a run"


@pytest.mark.slow
def test_command(tiny, tmp_path, capsys, monkeypatch):
    """In this process, so that no other is started; a run this short has the eager gear."""
    monkeypatch.setattr(benching, "measure_apart", measure)
    monkeypatch.setattr(benching, "usable_cores", lambda: 1)
    arguments = ["bench", "--hours", "--attn", "elu", "--task", "listops", "--repeats", "1", "--protocol", tiny]
    assert main([*arguments, "--device", "cpu", "--budget", "5", "--out", str(tmp_path)]) == 0
    for text in (capsys.readouterr().out, (tmp_path / "bench.md").read_text()):
        assert "Whole runs of tiny: eager" in text
        assert "Start cold, s" in text
    assert len(list(tmp_path.glob("bench-*.json"))) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hours", "--lengths", "8"], "leave out --lengths"),
        (["--hours", "--batch", "4"], "leave out --lengths, --published, --batch"),
        (["--hours", "--mode", "forward"], "--hours measures what runs do"),
        (["--hours", "--yardstick"], "--yardstick times one process"),
        (["--yardstick", "--processes", "2"], "--yardstick times one process"),
        (["--attn", "elu", "--processes", "0"], "takes a number from 1"),
    ],
)
def test_mistakes(arguments, message, capsys, tmp_path):
    assert main(["bench", *arguments, "--device", "cpu", "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
