"""metrics.jsonl is enough to plot progress; trackers get the same lines, and their errors never end a run."""

import contextlib
import importlib
import sys
import types

import pytest
import torch
from asking import asked, run_grid
from logs import lines_of

from lra.errors import ConfigError
from lra.experiments.grid import prepare_all
from lra.experiments.job import open_job, run_job
from lra.experiments.plan import plan
from lra.training.distributed import Group
from lra.training.tracker import Tracker, WandB, check_tracker


class Board:
    """A fake tracker that keeps the lines that it gets."""

    made: list["Board"] = []  # noqa: RUF012

    def __init__(self, folder, config, first):
        self.folder, self.config, self.first, self.lines, self.closed = folder, config, first, [], False
        self.results = {}
        Board.made.append(self)

    def log(self, step, values):
        self.lines.append({"step": step, **values})

    def summarise(self, step, values):
        self.results[step] = values

    def close(self):
        self.closed = True


def test_metrics_are_enough_to_draw_progress(tmp_path):
    """Each line holds its own position on the axes of steps, tokens and seconds."""
    (record,) = run_grid(asked(tmp_path))
    lines = lines_of(tmp_path)
    for line in lines:
        assert {"step", "train_loss", "lr", "real_tokens", "seconds"} <= set(line)
    evaluations = [line for line in lines if "validation_accuracy" in line]
    assert [line["step"] for line in evaluations] == [20, 40, 60]
    assert [line["validation_loss"] for line in evaluations] == [point["validation_loss"] for point in record.curve]
    assert [line["validation_accuracy"] for line in evaluations][-1] == record.curve[-1]["validation_accuracy"]
    for name in ("step", "real_tokens", "seconds"):
        values = [line[name] for line in lines]
        assert values == sorted(values)
        assert values[0] > 0


def test_a_tracker_gets_the_lines_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("lra.experiments.grid.check_tracker", lambda _: None)
    monkeypatch.setattr("lra.training.tracker.BACKENDS", {"wandb": Board})
    (record,) = run_grid(asked(tmp_path, track="wandb"))
    board = Board.made.pop()
    assert board.lines == lines_of(tmp_path)
    assert board.results == {
        60: {"test_accuracy": record.test_accuracy, "test_accuracy_last": record.test_accuracy_last}
    }
    assert board.closed
    assert board.config["row"] == "elu"
    assert board.config["train"]["steps"] == 60


@pytest.mark.parametrize("where", ["__init__", "log", "summarise", "close"])
def test_a_tracker_that_fails_is_named_once_and_ends_nothing(tmp_path, monkeypatch, capfd, where):
    def fails(*_):
        raise OSError("no network")

    monkeypatch.setattr("lra.experiments.grid.check_tracker", lambda _: None)
    monkeypatch.setattr("lra.training.tracker.BACKENDS", {"wandb": type("Failing", (Board,), {where: fails})})
    (record,) = run_grid(asked(tmp_path, track="wandb"))
    assert record.status == "done"
    assert len(lines_of(tmp_path)) == 5
    assert capfd.readouterr().err.count("wandb failed and is off for the rest of this run") == 1


@pytest.mark.parametrize("raises", [True, False])
def test_a_tracker_is_closed_after_a_failure(tmp_path, monkeypatch, raises):
    """An open tracker would receive the lines of the next run in the process."""
    monkeypatch.setattr("lra.training.tracker.BACKENDS", {"wandb": Board})

    def fails(*given):
        given[2].tracker.log(tmp_path, {"step": 20, "train_loss": 1.0})
        raise RuntimeError("no memory")

    monkeypatch.setattr("lra.experiments.job.train_and_test", fails)
    request = asked(tmp_path)
    (run,) = plan(request)
    data = prepare_all(request, [run], forgiving=False)[run.data_key]
    job = open_job(run, data.data.hash, tmp_path, "wandb")
    with pytest.raises(RuntimeError) if raises else contextlib.nullcontext():
        run_job(job, data, Group(0, 1, torch.device("cpu")), raises=raises)
    assert Board.made.pop().closed


def test_a_missing_package_is_told_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"--track wandb needs a package: pip install -e '\.\[wandb\]'"):
        run_grid(asked(tmp_path, track="wandb"))
    assert not list(tmp_path.iterdir())
    check_tracker("")


def test_wandb_goes_on_in_the_same_run(tmp_path, monkeypatch):
    """The calls are those that wandb documents, on a fake module."""
    calls = []

    class Run:
        summary: dict = {}  # noqa: RUF012

        def log(self, values, step):
            calls.append((step, values))

        def finish(self):
            calls.append("finished")

    def init(**settings):
        calls.append(settings)
        return Run()

    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    package = types.ModuleType("wandb")
    package.init = init  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "wandb", package)
    tracker = Tracker("wandb", {"seed": 0})
    tracker.log(tmp_path, {"step": 50, "train_loss": 2.0, "validation_loss": None})
    tracker.summarise(tmp_path, 60, {"test_accuracy": 0.5})
    tracker.close()
    assert Run.summary == {"test_accuracy": 0.5}
    about = {"project": "lra", "name": tmp_path.name, "id": calls[0]["id"], "dir": str(tmp_path)}
    assert calls == [about | {"config": {"seed": 0}, "resume": "allow"}, (50, {"train_loss": 2.0}), "finished"]
    WandB(tmp_path, {}, 50)
    assert calls[-1]["id"] == calls[0]["id"]
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    WandB(tmp_path / "elsewhere", {}, 50)
    assert calls[-1]["project"] == "mine", "the user's own project is respected"
    assert calls[-1]["id"] != calls[0]["id"]


def test_tensorboard_writes_its_files(tmp_path):
    """With the real package, if it is installed."""
    pytest.importorskip("tensorboard")
    tracker = Tracker("tensorboard")
    tracker.log(tmp_path, {"step": 50, "train_loss": 2.0})
    tracker.close()
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train_loss")] == [(50, 2.0)]


def test_a_resumed_run_repeats_no_step_in_tensorboard(tmp_path, monkeypatch):
    """TensorBoard drops the steps from the first one that a resumed process logs; the package is a fake."""
    writers = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            self.folder, self.purge_step, self.scalars = folder, purge_step, []
            writers.append(self)

        def add_scalar(self, name, value, step):
            self.scalars.append((name, value, step))

        def close(self):
            pass

    package = types.ModuleType("torch.utils.tensorboard")
    package.SummaryWriter = SummaryWriter  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", package)
    for first in (50, 150):
        tracker = Tracker("tensorboard")
        tracker.log(tmp_path, {"step": first, "train_loss": 2.0})
        tracker.summarise(tmp_path, 200, {"test_accuracy": 0.5})
        tracker.close()
    assert [writer.purge_step for writer in writers] == [50, 150]
    assert writers[1].scalars == [("train_loss", 2.0, 150), ("test_accuracy", 0.5, 200)]
