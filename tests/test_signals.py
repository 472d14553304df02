"""Signals: a run is saved within a step, the exit code says so, and the same command ends with the same record."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from computed import computed_in

from lra import signals
from lra.cli import main
from lra.training.run_folder import RunFolder

KNOCK = """
import os, signal, time
from attention_zoo import QKVAttention, register

@register("knock", title="Knock")
class Knock(QKVAttention):
    def attend(self, q, k, v, keep=None):
        if WHEN and "KNOCK" in os.environ:
            Knock.calls = getattr(Knock, "calls", 0) + 1
            if Knock.calls == CALLS:
                WHAT
        return v
"""
ROOT = Path(__file__).parent.parent
CALLS = 30  # of the attention, after which it sends its signal
SEED = 7  # of the moments of `test_killed_at_random_moments`; the first is after a third of the run


def command(tiny, out: Path, *overrides: str, attention: str = "elu") -> list[str]:
    words = ["--attn", attention, "--task", "listops", "--protocol", tiny, "--device", "cpu", "--out", str(out)]
    return [*words, "--set", "model.layers=1", "train.gear=eager", *overrides]


def saved_step(out: Path, pattern: str = "listops-*") -> int:
    """The step of the run's checkpoint."""
    (path,) = out.glob(f"work/{pattern}/resume.pt")
    state = RunFolder(path.parent).load_state()
    assert state is not None
    return state["progress"]["step"]


def knocking(tmp_path: Path, monkeypatch, what: str, calls: int = CALLS, when: str = "q.requires_grad") -> str:
    """A user's attention that sends signals to its process, as long as KNOCK is set, in a call that counts `when`."""
    monkeypatch.setenv("KNOCK", "1")
    monkeypatch.setattr("lra.commands.run.examine", lambda _: None)  # it calls the attention, which counts its calls
    path = tmp_path / "knock.py"
    path.write_text(KNOCK.replace("CALLS", str(calls)).replace("WHAT", what).replace("WHEN", when))
    return str(path)


@pytest.fixture(autouse=True)
def interruptible():
    """Restores the default handler of SIGINT, which is ignored if the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "the handler from before is back"
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 75), ("SIGUSR1", 75), ("SIGHUP", 75), ("SIGINT", 130)])
def test_a_run_is_saved_in_the_step_of_the_signal(tiny, tmp_path, monkeypatch, capfd, name, code):
    own = knocking(tmp_path, monkeypatch, f"os.kill(os.getpid(), signal.{name})")
    words = command(tiny, tmp_path / "runs", attention=own)
    assert main(words) == code
    said = capfd.readouterr().err.splitlines()
    step = saved_step(tmp_path / "runs")
    assert CALLS - 8 <= step <= CALLS, "the model is tried before the first step"
    assert f"[1/1] listops knock seed 0: saved at step {step} of 60, stops" in said
    assert said[-1] == f"stopped by {name}; the same command continues where it was"
    assert not list((tmp_path / "runs").glob("*.json"))
    monkeypatch.delenv("KNOCK")
    assert main(words) == 0
    assert main(command(tiny, tmp_path / "calm", attention=own)) == 0
    assert computed_in(tmp_path / "runs") == computed_in(tmp_path / "calm")


def test_ctrl_c_twice_stops_at_once(tiny, tmp_path, monkeypatch, capfd):
    """A second SIGINT that follows at once counts as the first, since `timeout` sends it twice."""
    knock = "os.kill(os.getpid(), signal.SIGINT)"
    twice = knocking(tmp_path, monkeypatch, f"{knock}; {knock}")
    assert main(command(tiny, tmp_path / "once", attention=twice)) == 130
    assert saved_step(tmp_path / "once")
    assert "Ctrl-C again stops at once" in capfd.readouterr().err
    (tmp_path / "again").mkdir()
    again = knocking(tmp_path / "again", monkeypatch, f"{knock}; time.sleep({signals.TWICE} + 0.1); {knock}")
    assert main(command(tiny, tmp_path / "twice", attention=again)) == 130
    said = capfd.readouterr().err
    assert "stopped by SIGINT" in said
    assert "saved at step" not in said
    assert saved_step(tmp_path / "twice") == 20, "of the last evaluation"


def test_under_nohup_other_signals_are_answered(tiny, tmp_path, monkeypatch):
    """Ctrl-C and SIGHUP stay ignored if they were at the start; further signals of a scheduler change nothing."""
    before = [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)]
    try:
        kill = "os.kill(os.getpid(), signal.{})"
        what = "; ".join(kill.format(name) for name in ("SIGINT", "SIGHUP", "SIGUSR1", "SIGTERM", "SIGTERM", "SIGHUP"))
        own = knocking(tmp_path, monkeypatch, what)
        assert main(command(tiny, tmp_path / "runs", attention=own)) == 75
        assert saved_step(tmp_path / "runs")
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGHUP), before, strict=True):
            signal.signal(number, handler)


def test_a_terminal_that_has_closed_ends_no_run():
    """Writing to a closed terminal raises OSError, until SIGHUP, after which output is discarded."""
    main_end, terminal = os.openpty()
    before = os.dup(2)
    os.dup2(terminal, 2)
    os.close(terminal)
    try:
        with signals.caught(), signals.held():
            os.close(main_end)
            with pytest.raises(OSError, match="Input/output error"):
                os.write(2, b"gone")
            os.kill(os.getpid(), signal.SIGHUP)
            assert os.write(2, b"nowhere") == 7
    finally:
        os.dup2(before, 2)
        os.close(before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_killed_at_random_moments(tiny, tmp_path):
    """While the run prepares, trains, evaluates or tests; repeated until the run ends before the signal comes.

    Python drops exceptions raised while it frees an object; the signal stays noted, and ends the run a step later.
    """
    long = ("train.steps=150", "train.warmup=10")
    assert main(command(tiny, tmp_path / "calm", *long)) == 0  # data and imports are ready for the next
    began = time.monotonic()
    assert main(command(tiny, tmp_path / "timed", *long)) == 0
    whole, moments = time.monotonic() - began, random.Random(SEED)
    print(f"a run takes {whole:.2f} s; seed {SEED}")
    words, codes = command(tiny, tmp_path / "runs", *long), []
    while 0 not in codes:
        at = moments.uniform(0, whole) if len(codes) < 3 else 60.0
        print(f"killed after {at:.2f} s")
        number = moments.choice([signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
        with signals.caught():  # for a signal that comes when the command has just ended
            timer = threading.Timer(at, os.kill, (os.getpid(), number))
            timer.start()
            try:
                codes.append(main(words))
            except signals.Stopped:
                codes.append(75)
            finally:
                timer.cancel()
    assert set(codes) == {0, 75}, "at least one signal came while the run was under way"
    assert computed_in(tmp_path / "runs") == computed_in(tmp_path / "calm")
    logs = [next((tmp_path / name).glob("work/*/metrics.jsonl")).read_text().splitlines() for name in ("runs", "calm")]
    steps, others = ([json.loads(line)["step"] for line in log] for log in logs)
    assert steps == others, "no line twice, none missing"


def test_a_pretraining_is_saved(tiny, tmp_path, monkeypatch, capfd):
    pretraining = ("train.pretrain=masked", "train.pretrain_steps=60", "train.pretrain_warmup=5")
    own = knocking(tmp_path, monkeypatch, "os.kill(os.getpid(), signal.SIGTERM)")
    words = command(tiny, tmp_path / "runs", *pretraining, attention=own)
    assert main(words) == 75
    step = saved_step(tmp_path / "runs", "pretrained-*")
    assert f"saved at pretraining step {step} of 60, stops" in capfd.readouterr().err
    monkeypatch.delenv("KNOCK")
    assert main(words) == 0
    assert main(command(tiny, tmp_path / "calm", *pretraining, attention=own)) == 0
    assert computed_in(tmp_path / "runs") == computed_in(tmp_path / "calm")


def test_processes_of_torchrun_stop_at_the_same_step(tiny, tmp_path, monkeypatch):
    """Only the second process got the signal, when it tried the model before the first step; both stop.

    In the steps themselves the first process may be the quicker one and take every turn. One process then goes on.
    """
    what = 'os.environ.get("RANK") == "1" and os.kill(os.getpid(), signal.SIGUSR1)'
    own = knocking(tmp_path, monkeypatch, what, calls=1, when="self.training")
    words = command(tiny, tmp_path / "runs", attention=own)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "run_lra.py"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    said = subprocess.run([*torchrun, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    step = saved_step(tmp_path / "runs")
    assert f"listops knock seed 0: saved at step {step} of 60, stops" in said.stderr
    assert said.stderr.count("the same command continues where it was") == 1
    assert "exitcode  : 75" in said.stderr
    monkeypatch.delenv("KNOCK")
    assert main(words) == 0
    assert main(command(tiny, tmp_path / "calm", attention=own)) == 0
    assert computed_in(tmp_path / "runs") == computed_in(tmp_path / "calm")


@pytest.mark.parametrize("processes", [("--jobs", "2"), ("--jobs", "1", "--processes", "2")])
def test_workers_save_before_the_command_ends(tiny, tmp_path, capfd, processes):
    words = [*command(tiny, tmp_path, "train.steps=1000000"), "--seed", "0", "1", *processes]
    count = 2 if "--processes" not in processes else 1

    def kill() -> None:
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob("work/*/resume.pt"))) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        before.update({path: path.stat().st_mtime_ns for path in tmp_path.glob("work/*/resume.pt")})
        os.kill(os.getpid(), signal.SIGTERM)

    before: dict[Path, int] = {}
    killer = threading.Thread(target=kill)
    killer.start()
    assert main(words) == 75
    killer.join()
    said = capfd.readouterr().err
    assert said.count(", stops\n") == count
    assert "stopped by SIGTERM" in said
    assert len(before) == count
    assert all(path.stat().st_mtime_ns > time_before for path, time_before in before.items())
    assert not list(tmp_path.glob("*.json"))


def test_what_the_parser_makes_of_a_signal_is_the_signal():
    """In Python 3.11, a signal during ast.parse raises SystemError, AST constructor recursion depth mismatch."""

    def parse(asked: bool):
        with signals.caught():
            if asked:
                signals.ask(signal.SIGTERM)
            raise SystemError("AST constructor recursion depth mismatch")

    with pytest.raises(signals.Stopped, match="SIGTERM"):
        parse(asked=True)
    with pytest.raises(SystemError):
        parse(asked=False)
