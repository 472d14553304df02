"""Locks, and claims where a file system has no locks: one process at a time, however the process before it ended."""

import contextlib
import json
import multiprocessing
import os
import re
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lra import signals
from lra.cli import main
from lra.errors import BusyError, ConfigError, WorkError
from lra.results import locks
from lra.results.locks import Holder, claim_of, holder_of, locked
from lra.results.record import load

START = multiprocessing.get_context("spawn")


def no_locks(*_: Any) -> None:
    """Replaces flock, as on a network file system without a lock server."""
    raise OSError(37, "No locks available")


@pytest.fixture
def lockless(monkeypatch):
    monkeypatch.setattr("lra.results.locks.fcntl.flock", no_locks)


def test_a_lock_says_who_holds_it(tmp_path):
    lock = tmp_path / "work" / "lock"
    with locked(lock):
        held = holder_of(lock)
        assert held is not None
        assert (held.pid, held.ended) == (os.getpid(), False)
        assert 0 <= time.time() - held.since < 60
        with pytest.raises(BusyError, match=rf"working in .*work \({held.host}, process {os.getpid()}\)"), locked(lock):
            pass
    assert holder_of(lock) is None
    assert [path.name for path in lock.parent.iterdir()] == ["lock"]


def test_a_number_beyond_all_processes_is_that_of_none(tmp_path):
    """A damaged lock file may hold any number."""
    assert replace(Holder(), pid=2**40).ended
    lock = tmp_path / "work" / "lock"
    lock.parent.mkdir()
    claim_of(lock).write_bytes(replace(Holder(), pid=2**40).encoded())
    with locked(lock):
        pass


@pytest.mark.usefixtures("lockless")
@pytest.mark.parametrize("function", ["write_bytes", "touch"])
def test_a_claim_on_a_full_disk_is_one_line(function, tmp_path, monkeypatch):
    lock = tmp_path / "work" / "lock"
    lock.parent.mkdir()
    lock.write_bytes(b"")
    claim_of(lock).write_bytes(replace(Holder(), place="elsewhere").encoded())

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, function, full)
    with pytest.raises(WorkError, match="No space left"), locked(lock):
        pass


@pytest.mark.usefixtures("lockless")
def test_without_locks_a_file_claims_the_folder(tmp_path, capfd):
    lock = tmp_path / "work" / "lock"
    with locked(lock):
        held = holder_of(lock)
        assert held == Holder(**json.loads(claim_of(lock).read_text()))
        with pytest.raises(BusyError, match=rf"\({re.escape(str(held))}\)"), locked(lock):
            pass
    assert [path.name for path in lock.parent.iterdir()] == ["lock"]
    with locked(lock):
        pass
    assert "No locks available): runs are claimed by files" in capfd.readouterr().err


def test_a_machine_with_locks_respects_a_claim(tmp_path, monkeypatch):
    lock = tmp_path / "work" / "lock"
    with monkeypatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setattr("lra.results.locks.fcntl.flock", no_locks)
        stack.enter_context(locked(lock))
        patch.undo()
        with pytest.raises(BusyError), locked(lock):
            pass


def test_a_machine_without_locks_respects_a_lock(tmp_path, monkeypatch):
    """The lock holds while its holder gives signs of life; a silent holder on another machine counts as ended."""
    monkeypatch.setenv("LRA_STALE", "1")
    lock = tmp_path / "work" / "lock"
    with monkeypatch.context() as patch, locked(lock):
        patch.setattr("lra.results.locks.fcntl.flock", no_locks)
        time.sleep(1.5)
        with pytest.raises(BusyError), locked(lock):
            pass
    assert not claim_of(lock).exists()
    monkeypatch.setattr("lra.results.locks.fcntl.flock", no_locks)
    lock.write_bytes(Holder(host="other", place="another machine", pid=9).encoded())
    os.utime(lock, (time.time() - 10, time.time() - 10))
    with locked(lock):
        pass


def test_locks_that_hold_on_one_machine_alone_stop_nobody(tmp_path, monkeypatch):
    """If a file system gives the lock to two machines, both go on, and the first record is kept."""
    monkeypatch.setenv("LRA_STALE", "0.5")
    monkeypatch.setattr("lra.results.locks.fcntl.flock", lambda *_: None)
    with locked(tmp_path / "lock"), locked(tmp_path / "lock"):
        time.sleep(0.3)
        assert not signals.asked()


@pytest.mark.usefixtures("lockless")
def test_a_claim_without_a_sign_is_taken_over(tmp_path, monkeypatch, capfd):
    """Its process has ended on this machine, or has been silent for LRA_STALE seconds on another."""
    lock = tmp_path / "work" / "lock"
    claim = claim_of(lock)
    claim.parent.mkdir()
    gone = START.Process()
    gone.start()
    gone.join()
    claim.write_bytes(Holder(pid=gone.pid or 0).encoded())
    with locked(lock):
        assert (
            f"process {gone.pid} has sent no heartbeat and counts as ended: this process continues its run"
            in capfd.readouterr().err
        )
    other = Holder(host="elsewhere", place="another machine", pid=1)
    monkeypatch.setenv("LRA_STALE", "30")
    claim.write_bytes(other.encoded())
    os.utime(claim, (time.time() - 20, time.time() - 20))
    with pytest.raises(BusyError, match="elsewhere, process 1"), locked(lock):
        pass
    os.utime(claim, (time.time() - 40, time.time() - 40))
    with locked(lock):
        assert "elsewhere, process 1 has sent no heartbeat" in capfd.readouterr().err
    assert [path.name for path in lock.parent.iterdir()] == ["lock"]
    monkeypatch.setenv("LRA_STALE", "soon")
    with pytest.raises(ConfigError, match="LRA_STALE takes the seconds"), locked(lock):
        pass


@pytest.mark.usefixtures("lockless")
def test_a_damaged_claim_counts_by_its_age(tmp_path):
    lock = tmp_path / "work" / "lock"
    claim = claim_of(lock)
    claim.parent.mkdir()
    claim.write_text("{")
    with pytest.raises(BusyError), locked(lock):
        pass
    os.utime(claim, (1, 1))
    with locked(lock):
        pass


@pytest.mark.usefixtures("lockless")
def test_a_claim_is_touched_as_long_as_its_process_works(tmp_path, monkeypatch, capfd):
    """A process that finds its claim taken over, because it was stopped too long, stops."""
    monkeypatch.setenv("LRA_STALE", "0.3")
    lock = tmp_path / "work" / "lock"
    claim = claim_of(lock)
    with signals.caught(), signals.held(), locked(lock):
        time.sleep(1)
        with pytest.raises(BusyError), locked(lock):
            pass
        assert not signals.asked()
        claim.write_bytes(replace(Holder(), pid=1).encoded())
        time.sleep(0.3)
        assert signals.asked()
    assert claim.exists(), "another's claim stays"
    assert "took over the run of this process" in capfd.readouterr().err


@pytest.mark.usefixtures("lockless")
def test_of_many_that_take_over_one_succeeds(tmp_path, monkeypatch):
    """Threads take over at the same time, twenty times."""
    monkeypatch.setattr(locks, "_say", lambda *_, **__: None)
    lock = tmp_path / "work" / "lock"
    claim = claim_of(lock)
    claim.parent.mkdir()
    for _ in range(20):
        claim.write_bytes(Holder(place="another machine").encoded())
        os.utime(claim, (1, 1))
        got, start, leave = [], threading.Barrier(6), threading.Barrier(6)

        def take(got=got, start=start, leave=leave) -> None:
            with contextlib.ExitStack() as stack:
                start.wait(20)
                with contextlib.suppress(BusyError):
                    stack.enter_context(locked(lock))
                    got.append(1)
                leave.wait(20)

        threads = [threading.Thread(target=take) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got == [1]


def _train(words: list[str], said: Path, start: Any) -> None:
    locks.fcntl.flock = no_locks  # pyright: ignore[reportOptionalMemberAccess]
    with said.open("w") as file:
        os.dup2(file.fileno(), 2)
        start.wait(120)
        raise SystemExit(main(words))


@pytest.mark.slow
def test_two_commands_on_one_folder_without_locks(tiny, tmp_path):
    """Each run is trained once; the exit code of a command shows that it left runs to the other."""
    words = ["--attn", "elu", "relu", "mean", "--task", "listops", "--protocol", tiny, "--device", "cpu"]
    words += ["--out", str(tmp_path / "runs"), "--set", "model.layers=1", "train.gear=eager", "train.steps=120"]
    start = START.Barrier(2)
    said = [tmp_path / "first", tmp_path / "second"]
    both = [START.Process(target=_train, args=(words, path, start)) for path in said]
    for process in both:
        process.start()
    for process in both:
        process.join(200)
    assert {process.exitcode for process in both} <= {0, 75}
    text = "".join(path.read_text() for path in said)
    for row in ("elu", "relu", "mean"):
        assert len(re.findall(rf"listops {row} seed 0: test ", text)) == 1, text
    assert [load(path).status for path in (tmp_path / "runs").glob("*.json")] == ["done"] * 3
    assert not [*tmp_path.glob("runs/work/*/*claim*"), *tmp_path.glob("runs/work/*/.*")]
