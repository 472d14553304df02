"""One run from its data to its record: build the model, train it, test it once.

The functions that compute import torch themselves, so that planning a grid and its messages stay fast.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tasks
from lra.experiments.data import TaskData, check_intact, set_doubtful_aside
from lra.experiments.fresh_state import fresh_state
from lra.experiments.run import Run, make_record
from lra.results.layout import BEST, LAST
from lra.results.record import Record, pack

if TYPE_CHECKING:
    import numpy as np

    from lra.training.distributed import Group
    from lra.training.loop import Trainer
    from lra.training.progress import Progress
    from lra.training.run_folder import NoFolder, RunFolder


def train_and_test(
    run: Run, prepared: TaskData, folder: RunFolder | NoFolder, group: Group, should_stop: Callable[[Progress], bool]
) -> Record:
    """Trains a run, or continues it, and tests it once.

    should_stop: called after every step; if it returns True, the run is saved, and Paused is raised.
    Every process of the group that shares the run calls this.
    """
    from lra.experiments.background_compiler import BackgroundCompiler
    from lra.experiments.build import make_model, padding_of
    from lra.experiments.pretrain import start_pretrained
    from lra.results.machine import reset_peak
    from lra.training.cores import threads_per_process
    from lra.training.device import Device, set_backends
    from lra.training.loading import release
    from lra.training.loop import Trainer
    from lra.training.step import Step

    data, config = prepared.data, run.config.train
    release(data.train, data.validation, data.test)
    reset_peak(group.device)
    check_intact(data, group)
    set_doubtful_aside(folder, data, f"{run.task} {run.row} seed {run.seed}")
    with fresh_state(threads_per_process() if group.device.type == "cpu" else 0):
        set_backends(config.deterministic)
        model = make_model(run, data.spec).to(group.device)
        device = Device(group.device, run.precision)
        step = Step(model, config, device, padding_of(run, data.spec), run.seed, group)
        trainer = Trainer(step, data.train, data.validation, folder, run.seed)
        trainer.restore()
        if config.pretrain != "none" and not trainer.progress.pretraining:
            start_pretrained(run, data, trainer, folder.folder.parent, should_stop)
        with contextlib.ExitStack() as stack:
            if trainer.progress.step < step.gears.shift_at and group.rank == 0:
                trainer.compiler = stack.enter_context(BackgroundCompiler(run, data.spec, data.train))
            trainer.run(should_stop)
        check_intact(data, group, seconds=trainer.progress.seconds)
        return finish(run, prepared, trainer)


def finish(run: Run, prepared: TaskData, trainer: Trainer) -> Record:
    """Reads the test split, once for each checkpoint, writes the weights, and returns the record."""
    from lra.backbones.weights import count_parameters
    from lra.results.machine import environment, peak_bytes
    from lra.training.batches import validation_rows

    data, progress, device = prepared.data, trainer.progress, trainer.step.device.torch_device
    started = time.monotonic()
    tested = {} if progress.diverged_at else read_test_split(run, data, trainer)
    progress.evaluate_seconds += time.monotonic() - started
    if not progress.diverged_at:
        labels = data.validation.labels
        rows = len(validation_rows(run.config.train, len(labels), run.seed, 0))
        tested["learned"] = learned(progress, labels, rows)
    best = next((point for point in progress.curve if point["step"] == progress.best_step), {})
    return make_record(
        run,
        data,
        status="diverged" if progress.diverged_at else "done",
        reason=progress.diverged_reason,
        ladder=prepared.ladder,
        parameters=count_parameters(trainer.model),  # pyright: ignore[reportArgumentType]
        curve=progress.curve,
        pretraining=progress.pretraining,
        best_step=progress.best_step,
        validation_accuracy=best.get("validation_accuracy"),
        seconds={
            "compile": round(progress.compile_seconds, 3),
            "train": round(progress.train_seconds, 3),
            "evaluate": round(progress.evaluate_seconds, 3),
        },
        tokens_per_second=round(progress.real_tokens / max(progress.train_seconds, 1e-9), 1),
        peak_bytes=max(progress.peak_bytes, peak_bytes(device) or 0) or None,
        environment=environment(device, trainer.step.gears.name),
        **tested,
    )


def read_test_split(run: Run, data: tasks.Data, trainer: Trainer) -> dict[str, Any]:
    """The record's fields from the test split, for the checkpoint that `train.select` chooses and for the last one.

    The last weights are tested first, and the chosen ones only if they differ. Returns {} if a logit is not finite;
    the trainer has then noted that the run has diverged.
    """
    import numpy as np

    from lra.training.batches import evaluation_rows

    labels, model, folder = np.asarray(data.test.labels), trainer.model, trainer.folder
    rows = evaluation_rows(run.config.train, len(labels))
    last = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    predictions = trainer.test(data.test, rows)
    if predictions is None:
        return {}
    last_accuracy = float(np.mean(predictions == labels[rows]))
    if trainer.best is not None and trainer.progress.best_step != trainer.progress.step:
        model.load_state_dict(trainer.best)
        predictions = trainer.test(data.test, rows)
        if predictions is None:
            return {}
    folder.save_weights(LAST, last)
    folder.save_weights(BEST, trainer.best or last)
    correct = predictions == labels[rows]
    accuracies = {"test_accuracy": float(np.mean(correct)), "test_accuracy_last": last_accuracy}
    folder.summarise(trainer.progress.step, accuracies)
    return {
        **accuracies,
        "test_rows": len(rows),
        "accuracy_by": accuracy_by(data.test, rows, correct),
        "predictions": pack(predictions.tobytes()),
        "correct": pack(np.packbits(correct).tobytes()),
    }


def accuracy_by(split: tasks.Split, rows: np.ndarray, correct: np.ndarray) -> dict[str, dict[str, float]]:
    """Accuracy for each value of each of the task's groups, such as the root operator."""
    accuracies = {}
    for group, (names, codes) in split.groups.items():
        values = codes[rows]
        accuracies[group] = {
            name: float(correct[values == code].mean()) for code, name in enumerate(names) if (values == code).any()
        }
    return accuracies


def learned(progress: Progress, labels: np.ndarray, rows: int) -> bool:
    """Whether validation accuracy was ever above the constant answer's by more than its binomial noise.

    Chance alone reaches that in at most 2.5 % of runs, over all evaluations together.

    labels: of the validation split. rows: how many of them an evaluation reads.
    """
    import numpy as np

    from lra.stats.accuracy import binomial_half_width

    constant = float(np.bincount(labels).max() / len(labels))
    return progress.best_accuracy > constant + binomial_half_width(constant, rows, tests=len(progress.curve))
