"""Prepared data that is damaged while runs read it: no run on it is recorded, and finished records stay unchanged."""

import os
import time
from pathlib import Path

import pytest
from computed import computed_in

import tasks
from lra.cli import main
from lra.results.record import load
from lra.training.loop import Trainer

ROWS = ("data.train_rows=120", "data.validation_rows=40", "data.test_rows=50")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch):
    """Each test damages data in a cache of its own."""
    monkeypatch.setenv("LRA_CACHE", str(tmp_path / "cache"))


def command(tiny: str, out: Path, *attentions: str) -> list[str]:
    words = ["--attn", *attentions, "--task", "listops", "--protocol", tiny, "--device", "cpu", "--out", str(out)]
    return [*words, "--set", "model.layers=1", "train.gear=eager", "train.steps=40", *ROWS]


def damage(cache: Path) -> Path:
    """Flips a bit of a label in place, as a disk may: the file keeps its size, and the folder its files."""
    (path,) = cache.glob("listops-*/validation-labels.npy")
    with path.open("rb+") as file:
        file.seek(-8, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-8, os.SEEK_END)
        file.write(bytes([byte ^ 1]))
    return path


def test_a_long_run_on_damaged_data_fails_and_begins_again(tiny, tmp_path, monkeypatch, capfd):
    """Its checkpoint is kept but not used, because some of its steps may have read damaged data."""
    monkeypatch.setattr("lra.experiments.data.LONG", 0.0)
    words, out = command(tiny, tmp_path / "runs", "elu"), tmp_path / "runs"
    assert main(words) == 0
    (finished,) = out.glob("*.json")
    before, evaluate = finished.read_bytes(), Trainer.evaluate
    fresh = command(tiny, out, "elu", "relu")

    def damaging(self: Trainer):
        evaluate(self)
        if self.progress.step == 20:
            monkeypatch.setattr(Trainer, "evaluate", evaluate)
            damage(tmp_path / "cache")

    monkeypatch.setattr(Trainer, "evaluate", damaging)
    assert main(fresh) == 1
    (failed,) = (path for path in out.glob("*.json") if load(path).status == "failed")
    reason = load(failed).reason
    assert "is damaged: validation-labels.npy has changed since it was written; the same command prepares" in reason
    assert (out / "work" / failed.stem / "resume.pt").exists()
    assert finished.read_bytes() == before
    capfd.readouterr()
    assert main(fresh) == 0
    said = capfd.readouterr().err
    assert "is damaged and not used: validation-labels.npy has changed since it was written; it was intact on" in said
    assert "relu seed 0: its checkpoint may come from damaged data and is not used (doubtful.pt stays" in said
    assert not list(out.glob("work/*/*.pt")), "kept no longer than until the run has ended"
    assert finished.read_bytes() == before
    assert main(command(tiny, tmp_path / "calm", "elu", "relu")) == 0
    assert computed_in(out) == computed_in(tmp_path / "calm")


def test_a_checkpoint_from_before_the_last_verification_is_used(tiny, tmp_path, monkeypatch, capfd):
    """The data was damaged after the checkpoint, so that it is prepared again and the run goes on."""
    out = tmp_path / "runs"

    def stop(self: Trainer):
        evaluate(self)
        if self.progress.step == 40:
            raise KeyboardInterrupt

    evaluate = Trainer.evaluate
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "evaluate", stop)
        assert main(command(tiny, out, "elu")) == 130
    (checkpoint,) = out.glob("work/*/resume.pt")
    os.utime(checkpoint, (time.time() - 3600, time.time() - 3600))
    damage(tmp_path / "cache")
    monkeypatch.setenv("LRA_VERIFY_DAYS", "0")
    capfd.readouterr()
    assert main(command(tiny, out, "elu")) == 0
    said = capfd.readouterr().err
    assert "is damaged and not used" in said
    assert "not used (doubtful.pt" not in said
    assert "listops elu seed 0: step 20/40" not in said


def test_verify_marks_what_it_finds(tiny, tmp_path, capsys):
    """The next command finds the data marked as damaged, and does not wait until a verification is due."""
    assert main(["data", "prepare", "--task", "listops", "--protocol", tiny, "--set", *ROWS]) == 0
    path = damage(tmp_path / "cache")
    assert main(["data", "verify", "--task", "listops"]) == 1
    assert (
        "damaged: validation-labels.npy has changed since it was written; the next command" in capsys.readouterr().out
    )
    assert main(["data", "prepare", "--task", "listops", "--protocol", tiny, "--set", *ROWS]) == 0
    assert "is damaged and not used" in capsys.readouterr().err
    assert main(["data", "verify", "--task", "listops"]) == 0
    assert sorted(name.name for name in path.parent.iterdir() if name.suffix not in (".npy", ".json")) == [
        "replaced",
        "verified",
    ]


@pytest.mark.parametrize("name", ["validation-labels.npy", "manifest.json"])
def test_verify_finds_data_that_is_not_whole(name, tiny, tmp_path, capsys):
    """A command that needs such data prepares it again, without a message."""
    assert main(["data", "prepare", "--task", "listops", "--protocol", tiny, "--set", *ROWS]) == 0
    (path,) = (tmp_path / "cache").glob(f"listops-*/{name}")
    path.unlink()
    (path.parent / "link").symlink_to("nowhere")
    assert main(["data", "verify", "--task", "listops"]) == 1
    assert f"{path.parent}: damaged: files are missing or unreadable" in capsys.readouterr().out
    assert main(["data", "status", "--task", "listops"]) == 0
    assert main(["data", "prepare", "--task", "listops", "--protocol", tiny, "--set", *ROWS]) == 0
    (path.parent / "link").symlink_to("nowhere")
    assert main(["data", "verify", "--task", "listops"]) == 0
    assert main(["data", "status", "--task", "listops"]) == 0


def test_arrays_that_were_replaced_while_they_are_read_are_compared(tmp_path):
    """Another process has prepared the data again: its files are whole, but this process has the damaged arrays."""
    task, cache = tasks.find("listops"), tmp_path / "cache"
    rows = {"train_rows": 30, "validation_rows": 20, "test_rows": 20, "min_length": 20, "max_length": 60}
    task.prepare(task.settings(**rows), None, cache, False)
    damage(cache)
    (damaged,) = tasks.prepared(cache, "listops")
    assert tasks.find_fault(damaged)
    whole = task.prepare(task.settings(**rows), None, cache, False)
    assert not tasks.verify(whole, now=False)
    assert "the arrays that this process read are no longer those" in tasks.verify(damaged, now=False)
