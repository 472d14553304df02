"""Checkpoints and weights: a flipped bit is noticed; a damaged checkpoint gives way to the previous one."""

import hashlib
import io
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from asking import asked, run_grid, stop_at
from soak.flips import flip

from lra.errors import WorkError
from lra.training.checkpoint import read_state, read_weights, write_state, write_weights

STATE = {"model": {"a": torch.arange(9.0)}, "update": {"b": torch.ones(3)}, "best": None, "progress": {"step": 5}}
WEIGHTS = {"layer.weight": torch.arange(12.0).reshape(3, 4), "layer.bias": torch.zeros(4), "scale": torch.tensor(2.0)}


def test_no_bit_of_a_checkpoint_flips_unnoticed(tmp_path: Path, capsys):
    newest, before = tmp_path / "resume.pt", tmp_path / "resume-before.pt"
    write_state(newest, before, STATE)
    write_state(newest, before, STATE | {"progress": {"step": 9}})
    whole = newest.read_bytes()
    for seed in range(60):
        flip(newest, random.Random(seed))
        state = read_state(newest, before)
        assert state is not None
        assert state["progress"] == {"step": 5}
        newest.write_bytes(whole)
    said = capsys.readouterr().err
    assert said == f"checkpoint {newest} is damaged: the run goes on from the one before, resume-before.pt\n"
    flip(newest, random.Random(0))
    flip(before, random.Random(0))
    with pytest.raises(WorkError, match=r"resume.pt is damaged; delete it to start this run again"):
        read_state(newest, before)
    newest.unlink()
    before.unlink()
    assert read_state(newest, before) is None


@pytest.mark.parametrize("state", [[1, 2], {"model": {}}, STATE | {"progress": {"steps": 1}}, STATE | {"model": [1]}])
def test_a_right_digest_of_something_else_falls_back(state: object, tmp_path: Path, capsys):
    newest, before = tmp_path / "resume.pt", tmp_path / "resume-before.pt"
    write_state(newest, before, STATE)
    write_state(newest, before, state)  # pyright: ignore[reportArgumentType]
    previous = read_state(newest, before)
    assert previous is not None
    assert previous["progress"] == {"step": 5}
    assert capsys.readouterr().err == (
        f"checkpoint {newest} is of another version: the run goes on from the one before, resume-before.pt\n"
    )
    content = b"no pickle"
    newest.write_bytes(hashlib.sha256(content).digest() + content)
    assert read_state(newest, before) is not None
    before.unlink()
    with pytest.raises(WorkError, match=r"resume.pt is of another version; delete it to start this run again"):
        read_state(newest, before)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_whole_checkpoint_is_not_to_be_deleted_where_memory_runs_out(error: Exception, tmp_path: Path, monkeypatch):
    def load(*_: Any, **__: Any) -> None:
        raise error

    newest, before = tmp_path / "resume.pt", tmp_path / "resume-before.pt"
    write_state(newest, before, STATE)
    monkeypatch.setattr("torch.load", load)
    with pytest.raises(type(error)) as raised:
        read_state(newest, before)
    assert raised.value is error


@pytest.mark.parametrize("act", ["saves", "ends"])
def test_another_command_saves_or_ends_the_run_while_it_is_read(act: str, tmp_path: Path, monkeypatch, capsys):
    """The file is moved or deleted after it was found, and before it is opened."""
    newest, before = tmp_path / "resume.pt", tmp_path / "resume-before.pt"
    write_state(newest, before, STATE)
    real = Path.open

    def opened(path: Path, *arguments: Any, **settings: Any) -> Any:
        if path == newest and newest.exists():
            newest.replace(before) if act == "saves" else newest.unlink()
        return real(path, *arguments, **settings)

    monkeypatch.setattr(Path, "open", opened)
    state = read_state(newest, before)
    assert (state and state["progress"]) == ({"step": 5} if act == "saves" else None)
    assert capsys.readouterr().err == ""


def test_a_state_is_written_from_one_copy_in_memory(tmp_path: Path):
    """The file is the digest and what torch.save writes."""
    state = STATE | {"model": {"a": torch.arange(2.0**20)}}
    tracemalloc.start()
    try:
        write_state(tmp_path / "resume.pt", tmp_path / "resume-before.pt", state)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    content = io.BytesIO()
    torch.save(state, content)
    size = len(content.getvalue())
    assert (tmp_path / "resume.pt").read_bytes() == hashlib.sha256(content.getvalue()).digest() + content.getvalue()
    assert peak < 1.5 * size


def test_nothing_is_unpickled(tmp_path: Path):
    """A pickle that would create a file is refused, also with the right digest."""

    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    newest, before = tmp_path / "resume.pt", tmp_path / "resume-before.pt"
    write_state(newest, before, STATE | {"progress": Evil()})
    with pytest.raises(WorkError, match="is of another version"):
        read_state(newest, before)
    assert not (tmp_path / "ran").exists()


def test_no_bit_of_weights_flips_unnoticed(tmp_path: Path):
    path = tmp_path / "best.safetensors"
    write_weights(path, WEIGHTS)
    whole = path.read_bytes()
    for seed in range(150):
        flip(path, random.Random(seed))
        try:
            weights = read_weights(path)
        except WorkError:
            pass
        else:  # the bit is in the name of the digest's field
            assert weights.keys() == WEIGHTS.keys()
            assert all(torch.equal(weights[name], WEIGHTS[name]) for name in WEIGHTS)
        path.write_bytes(whole)
    assert all(torch.equal(tensor, WEIGHTS[name]) for name, tensor in read_weights(path).items())


@pytest.mark.parametrize("damage", ["bit", "content"])
def test_a_run_goes_on_from_the_checkpoint_before(damage: str, tmp_path: Path, capsys):
    """It ends with the numbers of an undisturbed run."""

    def run(name: str, observe=None):
        overrides = ("train.steps=40", "train.evaluate_every=10")
        return run_grid(asked(tmp_path / name, overrides=overrides, observe=observe))

    (whole,) = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("stopped", stop_at(36))
    (newest,) = (tmp_path / "stopped").glob("work/*/resume.pt")
    assert (newest.parent / "resume-before.pt").exists()
    if damage == "bit":
        flip(newest, random.Random(0))
    else:
        content = b"no pickle"
        newest.write_bytes(hashlib.sha256(content).digest() + content)
    capsys.readouterr()
    (record,) = run("stopped")
    assert "the run goes on from the one before" in capsys.readouterr().err
    assert (record.curve and [p["train_loss"] for p in record.curve]) == [p["train_loss"] for p in whole.curve]
    assert (record.test_accuracy, record.predictions) == (whole.test_accuracy, whole.predictions)
    assert not list(newest.parent.glob("resume*"))
