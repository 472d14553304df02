"""`make gpu`: plan, time budgets and continuation, with fake parts, and runs on the CPU."""

import contextlib
import os
import runpy
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lra import errors
from lra.cli import main
from lra.gpu.carry_out import carry_out
from lra.gpu.plan import GPURequest, Part, plan, runs
from lra.gpu.summary import PartOutcome, plan_text
from lra.results import checkout
from lra.results.files import write_all


def part(name: str, code: str, budget: float = 1.0) -> Part:
    return Part(name, f"part {name}", ("-c", code), 0.1, budget)


def test_the_plan_is_printed_and_nothing_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["gpu", "--dry-run", "--seed", "0", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    order = ["tests that need", "step of softmax on listops", "listops under standard", "text under", "image under"]
    places = [shown.index(words) for words in [*order, "retrieval under", "pathfinder under"]]
    assert places == sorted(places)
    assert "bench --yardstick --task listops --attn softmax --repeats 5 --protocol standard --device cuda" in shown
    assert "parts fit into 60 minutes" in shown
    assert not (tmp_path / "out").exists()


def test_the_plan_keeps_the_minutes_of_the_report(tmp_path: Path):
    parts = [replace(part(f"part {number}", ""), minutes=1.0) for number in range(10)]
    shown = plan_text(parts, GPURequest(out=tmp_path, minutes=10))
    assert "The first 9 of 10 parts fit into 10 minutes, of which the report takes 1." in shown


def test_every_part_has_the_words_that_were_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A path stays as it was written, and the timed steps have the overrides of the runs."""
    command = ["gpu", "--dry-run", "--protocol", "quick", "--data-dir", str(tmp_path)]
    command += ["--set", "model.layers=1", "data.brackets=false"]
    assert main([*command, "--attn", "./mine.py", "--task", "listops", "--seed", "0"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if " run_lra.py " in line]
    assert len(lines) == 3
    for line in lines:
        assert "--attn ./mine.py" in line
        assert "--protocol quick --device cuda --set model.layers=1" in line
        assert (f"data.brackets=false --data-dir {tmp_path}" in line) == ("--lengths" not in line)


def test_a_family_of_attentions_has_a_part_for_each(capsys: pytest.CaptureFixture[str]):
    words = ["gpu", "--dry-run", "--parts", "steps", "--task", "listops", "--attn", "family:sparse", "--seed", "0"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "training step of bigbird on listops" in shown
    assert "training step of informer on listops" in shown


def test_an_installed_package_has_no_script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys):
    assert checkout.program() == (str(checkout.ROOT / "run_lra.py"),)
    assert errors.to_type("report", "my runs") == "python run_lra.py report 'my runs'"
    for module in (checkout, errors):
        monkeypatch.setattr(module, "SCRIPT", tmp_path / "run_lra.py")
    assert checkout.program() == ("-m", "lra")
    assert errors.to_type("report", "my runs") == "python -m lra report 'my runs'"
    monkeypatch.setattr("sys.argv", ["lra", "status", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("lra", run_name="__main__")
    assert end.value.code == 0
    capsys.readouterr()
    for words in ([], ["--help"], ["run", "--help"], ["list", "--hlep"]):
        with contextlib.suppress(SystemExit):
            main(words)
        assert "run_lra.py" not in (shown := "".join(capsys.readouterr()))
        assert "python -m lra " in shown


def test_bytes_of_no_encoding_do_not_block_a_part(tmp_path: Path):
    code = "import sys; sys.stdout.buffer.write(b'\\xff ' * 100_000); print('end')"
    (outcome,) = carry_out(GPURequest(tmp_path, minutes=1), [part("one", code)])
    assert outcome.state == "done"
    assert outcome.lines[-1].endswith("end")


def test_parts_can_be_chosen(capsys: pytest.CaptureFixture[str]):
    words = ["gpu", "--dry-run", "--parts", "runs", "tests", "--task", "listops", "--attn", "elu", "--seed", "0"]
    assert main(words) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")][2:]
    assert ["tests" in lines[0], "listops under standard" in lines[1], len(lines)] == [True, True, 2]


def test_the_log_has_what_goes_wrong(tmp_path: Path):
    code = "import sys; print('gear eager: captured failed', file=sys.stderr); raise KeyError('this')"
    request = GPURequest(tmp_path, minutes=1)
    (outcome,) = carry_out(request, [Part("one", "one", ("-c", code), 0.1, 0.5)])
    assert outcome.state == "failed, exit code 1"
    log = (tmp_path / "parts" / "one.log").read_text()
    assert "captured failed" in log
    assert "KeyError: 'this'" in log


def test_without_the_device_one_line_says_so(capsys: pytest.CaptureFixture[str]):
    for name in ("auto", "cpufoo", "mps"):
        assert main(["gpu", "--dry-run", "--device", name]) == 2
        assert f"--device {name}: must be cuda, cuda:1, ..., or cpu" in capsys.readouterr().err
    assert main(["gpu", "--device", "cuda:7"]) == 2
    assert "cuda:7" in capsys.readouterr().err


SAVES = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(print("saved")))
print("begun")
time.sleep(60)
"""


def test_parts_fail_stop_and_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lra.gpu.carry_out.PATIENCE", 5)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a background job of a shell
    parts = [part("good", "print('hello')"), part("bad", "raise SystemExit(3)"), part("slow", SAVES, budget=0.05)]
    request = GPURequest(out=tmp_path, minutes=5)
    try:
        outcomes = carry_out(request, parts)
    finally:
        signal.signal(signal.SIGINT, before)
    assert [o.state for o in outcomes] == ["done", "failed, exit code 3", "stopped"]
    assert outcomes[2].lines == ["begun", "saved"]
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "hello" in text
    assert "failed, exit code 3" in text
    again = carry_out(request, parts[:2])
    assert [o.state for o in again] == ["done before", "failed, exit code 3"]
    assert "hello" in (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert carry_out(request, [part("good", "print('other')")])[0].state == "done"  # another command is another part


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="this system has no process groups")
def test_what_a_part_leaves_running_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It has the part's output open, so that the reader of the output would wait for it."""
    monkeypatch.setattr("lra.gpu.carry_out.PATIENCE", 5)
    sleep = "import time; time.sleep(20)"
    code = f"import subprocess, sys; print('pid', subprocess.Popen([sys.executable, '-c', {sleep!r}]).pid)"
    started = time.monotonic()
    (outcome,) = carry_out(GPURequest(out=tmp_path, minutes=1), [part("one", code)])
    assert (outcome.state, len(outcome.lines)) == ("done", 1)
    assert time.monotonic() - started < 15


def test_a_part_that_did_nothing_has_failed(tmp_path: Path):
    """A part whose tests are all skipped ends with exit code 0, yet counts as failed."""
    code = "print('9 skipped in 0.02s')"
    (tests, *_) = plan(GPURequest(out=tmp_path, parts=["tests"]))
    (outcome,) = carry_out(GPURequest(out=tmp_path), [replace(tests, words=("-c", code))])
    assert outcome.state == "failed, nothing passed"
    assert not list((tmp_path / "parts").glob("*.done"))


def test_the_summary_is_there_after_every_part(tmp_path: Path):
    """The machine may be lost at any moment."""
    reads = f"print(open({str(tmp_path / 'summary.md')!r}).read())"
    outcomes = carry_out(GPURequest(out=tmp_path), [part("first", "print('hello')"), part("second", reads)])
    row = next(line for line in outcomes[1].lines if line.startswith("| part first |"))
    assert row.split("|")[2].strip() == "done"


def test_an_interrupted_part_is_in_the_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stops(request: GPURequest, *_: Any) -> PartOutcome:
        write_all({"one.log": b"half of it"}, request.out / "parts", ("one.log", ""))
        raise KeyboardInterrupt

    monkeypatch.setattr("lra.gpu.carry_out._run", stops)
    with pytest.raises(KeyboardInterrupt):
        carry_out(GPURequest(out=tmp_path), [part("one", ""), part("two", "")])
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "interrupted" in text
    assert "half of it" in text
    assert "part two" not in text


def test_the_report_fits_into_the_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    budgets = {}

    def run(_: GPURequest, part: Part, budget: float) -> PartOutcome:
        budgets[part.name] = budget
        return PartOutcome(part, "stopped", budget)

    monkeypatch.setattr("lra.gpu.carry_out._run", run)
    write_all({"listops-x.json": b"{}"}, tmp_path, ("listops-x.json", ""))
    carry_out(GPURequest(out=tmp_path, minutes=7), [part("one", "", budget=30)])
    assert budgets["one"] == pytest.approx(6.3, abs=0.1)
    assert budgets["report"] == pytest.approx(7, abs=0.1)  # what is left: the part took no time


def test_no_part_begins_when_the_time_is_used_up(tmp_path: Path):
    outcomes = carry_out(GPURequest(out=tmp_path, minutes=1e-9), [part("one", "print(1)")])
    assert [o.state for o in outcomes] == ["left out"]


def test_runs_on_a_cpu_end_in_a_report(tiny: str, tmp_path: Path):
    request = GPURequest(
        out=tmp_path, seeds=(0,), protocol=tiny, device="cpu", attentions=["identity"], tasks=["listops"],
        overrides=("train.steps=4", "train.warmup=1"),
    )  # fmt: skip
    parts = runs(request)
    assert [p.name for p in parts] == ["listops-0"]
    outcomes = carry_out(request, parts)
    assert [(o.part.name, o.state) for o in outcomes] == [("listops-0", "done"), ("report", "done")]
    assert (tmp_path / "report" / "report.html").exists()
    assert [p.name for p in plan(request)][:3] == ["tests", "step-listops-0", "memory-0"]
    write_all({"listops-x.json": b"{"}, tmp_path, ("listops-x.json", ""))
    assert "failed" in carry_out(request, parts)[-1].state
