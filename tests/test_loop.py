"""What the training loop keeps and records: the best weights by validation, the mean loss, the accuracies."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from asking import asked
from logs import lines_of
from torch import Tensor

import tasks
from lra.experiments.data import TaskData
from lra.experiments.plan import plan
from lra.experiments.train_and_test import train_and_test
from lra.results.record import Record
from lra.training.distributed import alone
from lra.training.loop import Trainer
from lra.training.progress import Paused, Progress
from lra.training.run_folder import RunFolder
from lra.training.step import Step

SPEC = tasks.Spec(vocab=16, classes=10, length=30)


def split(rows: int) -> tasks.Split:
    rng = np.random.default_rng(rows)
    values, lengths = rng.integers(0, 15, (rows, 30)).astype(np.uint8), rng.integers(5, 31, rows).astype(np.int32)
    return tasks.Split(np.where(np.arange(30) < lengths[:, None], values, 0), lengths, rng.integers(0, 10, rows))


DATA = tasks.Data(SPEC, split(300), split(70), split(90), "0" * 12, {"label": "generated"}, Path("none"))


def trained(folder: Path, *overrides: str, observe: Callable[[Progress], bool] = lambda _: False) -> Record:
    """A run of 20 steps on random data."""
    overrides = ("train.steps=20", "train.warmup=4", "train.evaluate_every=5", *overrides)
    place = alone(torch.device("cpu"))
    record = train_and_test(plan(asked(overrides=overrides))[0], TaskData(DATA, {}), RunFolder(folder), place, observe)
    assert record.status == "done", record.reason
    return record


def test_the_most_memory_is_that_of_all_processes_of_a_run(tmp_path, monkeypatch):
    """A process that resumes a run may only have an evaluation left, and so need less memory than the first one."""
    monkeypatch.setattr("lra.training.loop.peak_bytes", lambda _: 5_000_000_000)
    monkeypatch.setattr("lra.results.machine.peak_bytes", lambda _: 1_000_000_000)
    with pytest.raises(Paused):
        trained(tmp_path, observe=lambda progress: progress.step == 7)
    monkeypatch.setattr("lra.training.loop.peak_bytes", lambda _: 2_000_000_000)
    assert trained(tmp_path).peak_bytes == 5_000_000_000


def test_a_gpu_is_waited_for_only_where_all_processes_wait(tmp_path, monkeypatch):
    """Each process saves by its own clock. One that read a loss then could end the run while the others go on."""
    read, loop = [], "lra.training.loop"
    real = Trainer.read_loss
    monkeypatch.setattr(f"{loop}.Trainer.read_loss", lambda self: (read.append(self.progress.step), real(self)))
    monkeypatch.setattr(f"{loop}.SAVE_EVERY", -1)
    monkeypatch.setattr("lra.training.device.Device.kind", "cuda")
    trained(tmp_path)
    assert read == [5, 10, 15, 20]


def test_a_checkpoint_is_not_to_be_deleted_where_memory_runs_out(tmp_path, monkeypatch):
    def load(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(Paused):
        trained(tmp_path, observe=lambda progress: progress.step == 7)
    monkeypatch.setattr("lra.training.optimiser.FlatAdamW.load_state_dict", load)
    with pytest.raises(torch.OutOfMemoryError):
        trained(tmp_path)


def weights_of(step: Step) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in step.model.state_dict().items()}


def equal(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return set(some) == set(others) and all(torch.equal(some[name], others[name]) for name in some)


def right_in(share: float, labels: np.ndarray) -> np.ndarray:
    """Predictions (rows,) uint8 of which this share is right."""
    right = np.arange(len(labels)) < round(share * len(labels))
    return np.where(right, labels, (labels + 1) % 10).astype(np.uint8)


@pytest.mark.parametrize(
    ("override", "accuracies", "best"),
    [("select=best", (0.9, 0.2, 0.3, 0.4), 0), ("select=best", (0.2, 0.8, 0.8, 0.5), 1),
     ("select=best", (0.2, 0.3, 0.4, 0.5), 3), ("select=last", (0.9, 0.2, 0.3, 0.4), None),
     ("select_after=0.5", (0.9, 0.2, 0.3, 0.4), None), ("select_after=0.5", (0.3, 0.9, 0.2, 0.4), 1),
     ("select_after=0.5", (0.6, 0.2, 0.8, 0.5), 2)],
    ids=["first", "second, of two equal", "last", "select=last", "early", "in time", "later and higher"],
)  # fmt: skip
def test_the_best_weights_by_validation_are_tested(tmp_path, monkeypatch, override, accuracies, best):
    """Evaluations are scripted: on the test split, the chosen weights get every row right and all others none.

    Under the quirk `select_after` an early maximum counts, but its weights are not kept; if no later accuracy exceeds
    it, the last weights are tested.
    """
    validated: list[dict[str, Tensor]] = []
    chosen = 3 if best is None else best

    def scripted(step: Step, samples: Any, rows: np.ndarray, seed: int) -> tuple[np.ndarray, float]:  # noqa: ARG001
        labels = samples.labels[rows]
        if samples is DATA.test:
            return right_in(float(equal(weights_of(step), validated[chosen])), labels), 1.0
        validated.append(weights_of(step))
        return right_in(accuracies[len(validated) - 1], labels), 1.0

    monkeypatch.setattr("lra.training.step.Step.evaluate", scripted)
    record = trained(tmp_path, f"train.{override}")
    assert [point["validation_accuracy"] for point in record.curve] == list(accuracies)
    assert not any(equal(validated[place], validated[place + 1]) for place in range(3))
    assert record.best_step == (None if best is None else 5 * best + 5)
    assert record.validation_accuracy == (None if best is None else accuracies[best])
    assert record.test_accuracy == 1.0
    assert record.test_accuracy_last == float(chosen == 3)
    for name, weights in (("best", validated[chosen]), ("last", validated[3])):
        assert equal(RunFolder(tmp_path).load_weights(name), weights), name


def test_the_log_says_the_mean_loss_since_its_last_line(tmp_path, monkeypatch):
    """Lines of evaluations do not begin a new mean. Each line has the learning rate of the step before it."""
    losses: list[float] = []
    rates: list[Any] = []
    real = Step.__call__

    def spy(step: Step, *arguments: Any) -> Tensor:
        loss = real(step, *arguments)
        losses.append(float(loss))
        rates.append(step.optimiser.optimizer.param_groups[0]["lr"])
        return loss

    monkeypatch.setattr("lra.training.step.Step.__call__", spy)
    monkeypatch.setattr("lra.training.loop.LOG_EVERY", 8)
    record = trained(tmp_path)
    lines = lines_of(tmp_path)
    first = {5: 0, 8: 0, 10: 8, 15: 8, 16: 8, 20: 16}  # step of a line -> number of steps before those of its mean
    means = {step: np.mean(losses[begin:step]) for step, begin in first.items()}
    assert [line["step"] for line in lines] == [5, 8, 10, 15, 16, 20, 20]
    points: list[dict[str, Any]] = [*lines, *record.curve]
    for line in points:
        assert line["train_loss"] == pytest.approx(means[line["step"]], rel=1e-6)
        assert line["lr"] == rates[line["step"] - 1]
    assert len(set(losses)) == 20


def test_accuracy_and_loss_are_those_of_the_rows_that_were_read(tmp_path, monkeypatch):
    """Each evaluation reads three reshuffled batches, and compares each prediction with the label of its own row."""
    seen, real = [], Step.evaluate

    def spy(step: Step, samples: Any, rows: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
        predictions, loss = real(step, samples, rows, seed)
        seen.append((samples, rows, predictions, loss))
        return predictions, loss

    monkeypatch.setattr("lra.training.step.Step.evaluate", spy)
    record = trained(tmp_path, "train.validation_batches=3")
    differ = False
    for point, (samples, rows, predictions, loss) in zip(record.curve, seen, strict=False):
        labels = samples.labels
        assert samples is DATA.validation
        assert len(rows) == len(predictions) == 3 * 8
        right = [int(predictions[place]) == int(labels[row]) for place, row in enumerate(rows)]
        assert point["validation_accuracy"] == pytest.approx(sum(right) / 24, abs=1e-12)
        assert point["validation_loss"] == loss
        differ |= sum(right) != np.sum(predictions == labels[:24])
    assert len(record.curve) == 4
    assert differ, "labels in another order would give the same accuracies"
