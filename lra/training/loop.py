"""The training loop: steps, evaluations, the best checkpoint by validation, and checkpoints to resume from.

A resumed run ends with the same bits as an undisturbed one (on CUDA only with train.deterministic). The rows of a
step, its learning rate and its dropout are functions of (seed, step). A checkpoint holds the rest: weights, AdamW's
state, the best weights, the gear, and the progress, which includes the size of the log.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Protocol

import numpy as np
from torch import Tensor

from lra import signals
from lra.errors import WorkError
from lra.hashing import seed_of
from lra.results.machine import peak_bytes, trim_heap
from lra.training.batches import Samples, order, validation_rows
from lra.training.device import lacks_memory
from lra.training.progress import Paused, Progress
from lra.training.run_folder import NoFolder, RunFolder
from lra.training.schedule import learning_rate
from lra.training.step import Step

LOG_EVERY = 50  # steps between lines of metrics.jsonl
SAVE_EVERY = 60.0  # seconds between checkpoints
TRIM_EVERY = 60.0  # seconds between returns of unused memory


class Compiler(Protocol):
    """Compiles in another process. busy: it has not finished. refused: why there is no compiled code, or ''.

    activity: what it is doing, to be shown in the progress bar.
    """

    @property
    def busy(self) -> bool: ...
    @property
    def activity(self) -> str: ...
    @property
    def refused(self) -> str: ...


class Trainer:
    """Trains `step.model`; the run folder keeps what is needed to resume after a kill.

    compiler: compiles the model for the gear that the run shifts to; only process 0 has one.
    """

    compiler: Compiler | None = None

    def __init__(self, step: Step, train: Samples, validation: Samples, folder: RunFolder | NoFolder, seed: int):
        self.step, self.model, self.config = step, step.model, step.config
        self.train, self.validation, self.folder, self.seed = train, validation, folder, seed
        self.progress = Progress()
        self.best: dict[str, Tensor] | None = None

    def restore(self) -> None:
        """Resumes from the checkpoint, if there is one. Raises WorkError when it is damaged or of another version.

        Where memory runs out the checkpoint is whole, and the error is raised as it is.
        """
        state = self.step.group.broadcast(self.folder.load_state())
        if state is not None:
            try:
                self.model.load_state_dict(state["model"])
                self.best = state["best"]
                self.step.optimiser.load_state_dict(state["update"])
                self.progress = Progress(**state["progress"])
                self.step.gears.restore(state.get("gear") or {})
            except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
                if lacks_memory(error):
                    raise
                raise WorkError(f"{self.folder.resume} is of another version; delete it to start again") from error
        self.folder.open_log(self.progress.log_bytes)

    def save(self) -> None:
        self.progress.peak_bytes = max(self.progress.peak_bytes, peak_bytes(self.step.group.device) or 0)
        self.folder.save_state(
            {
                "model": self.model.state_dict(),
                "update": self.step.optimiser.state_dict(),
                "best": self.best,
                "progress": asdict(self.progress),
                "gear": self.step.gears.state(),
            }
        )

    def run(self, should_stop: Callable[[Progress], bool]) -> Progress:
        """Trains to the last step, or until a loss or a logit is not finite.

        `should_stop` is called after every step. If it returns True in any process of the group, the run is saved and
        Paused is raised. From the first step to the last, a signal is noted and not raised (`lra.signals`), so that the
        run can be saved before it stops.
        """
        progress, config, group = self.progress, self.config, self.step.group
        progress.shift_at = self.step.gears.shift_at
        saved, trimmed, first = time.monotonic(), time.monotonic(), progress.step
        with contextlib.ExitStack() as hold:
            while progress.step < config.steps and progress.diverged_at is None:
                self.shift_up_in_time(should_stop)
                rows = order(len(self.train.labels), config.batch, self.seed, progress.step)
                with self.seconds("train"):
                    self.step(self.train, rows, progress.step)
                    if progress.step == first:
                        hold.enter_context(signals.held())
                    self.count_step()
                    last = progress.step == config.steps
                    to_log = last or progress.step % LOG_EVERY == 0
                    to_evaluate = last or progress.step % config.evaluate_every == 0
                    to_save = to_evaluate or time.monotonic() - saved > SAVE_EVERY
                    # Reading waits for a GPU. All processes of a group read at the same steps, so that they end at the
                    # same one; `to_save` depends on each one's clock, and a bad step is saved with the optimiser.
                    if to_log or to_evaluate or self.step.device.kind == "cpu":
                        self.read_loss()
                if to_log and progress.diverged_at is None:
                    self.log()
                if to_evaluate and progress.diverged_at is None:
                    with self.seconds("evaluate"):
                        self.evaluate()
                if progress.diverged_at is None:
                    if to_save:
                        self.save()
                        saved = time.monotonic()
                    if self.step.device.kind == "cpu" and time.monotonic() - trimmed > TRIM_EVERY:
                        trim_heap()  # micro-batches have many sizes, and gaps in the heap grow to gigabytes
                        trimmed = time.monotonic()
                    progress.activity = self.compiler.activity if self.compiler else ""
                    if group.any(should_stop(progress)):
                        self.pause()
            if progress.diverged_at is None:
                self.shift_up_in_time(should_stop)  # resumed after its last step: the test needs this gear, too
        return progress

    def pause(self) -> None:
        """Saves the run and raises Paused, in every process of the group at the same step."""
        self.save()
        raise Paused

    def shift_up_in_time(self, should_stop: Callable[[Progress], bool]) -> None:
        """Changes to the compiled gear at step `shift_at`, after waiting for the compiler to finish."""
        if not self.step.gears.shift_at or self.progress.step < self.step.gears.shift_at:
            return
        started, progress, compiler = time.monotonic(), self.progress, self.compiler
        stop = False
        while compiler is not None and compiler.busy and not stop:
            time.sleep(0.2)
            progress.activity = compiler.activity
            stop = should_stop(progress)
        if self.step.group.broadcast(stop):
            self.pause()
        refused = self.step.group.broadcast("" if compiler is None else compiler.refused)
        compiled = self.step.group.broadcast(compiler is not None and not refused)
        self.step.shift_up(self.train, compiled, refused)
        self.step.gears.take_compile_seconds()
        progress.compile_seconds += time.monotonic() - started

    @contextlib.contextmanager
    def seconds(self, account: str) -> Iterator[None]:
        """Adds the seconds of a section to the account `train` or `evaluate`, except those of compiling."""
        started, progress = time.monotonic(), self.progress
        yield
        compiling = self.step.gears.take_compile_seconds()
        progress.compile_seconds += compiling
        total = getattr(progress, f"{account}_seconds") + time.monotonic() - started - compiling
        setattr(progress, f"{account}_seconds", total)

    def count_step(self) -> None:
        """Counts a step and its tokens without waiting for the device."""
        progress, step = self.progress, self.step
        progress.step += 1
        progress.real_tokens, step.real_tokens = progress.real_tokens + step.real_tokens, 0
        progress.computed_tokens, step.computed_tokens = progress.computed_tokens + step.computed_tokens, 0

    def read_loss(self) -> None:
        """Updates the mean loss since the last line of the log; waits for the device.

        The run counts as diverged at the first step whose loss was not finite.
        """
        optimiser = self.step.optimiser
        self.progress.train_loss = float(optimiser.loss_sum) / ((self.progress.step - 1) % LOG_EVERY + 1)
        if bad_step := int(optimiser.bad_step):
            self.progress.diverge(bad_step, "loss")

    def log(self) -> None:
        """Writes one line of metrics.jsonl: the mean loss since the previous line, the rate, tokens and seconds."""
        progress = self.progress
        self.step.optimiser.reset_loss()
        line = {
            "step": progress.step,
            "train_loss": progress.train_loss,
            "lr": learning_rate(self.config, progress.step - 1),
            "real_tokens": progress.real_tokens,
            "computed_tokens": progress.computed_tokens,
            "seconds": round(progress.train_seconds, 3),
            "compile_seconds": round(progress.compile_seconds, 3),
        }
        progress.log_bytes = self.folder.log(line)

    def evaluate(self) -> None:
        """Validates, and keeps the weights if they are the best so far."""
        progress, config = self.progress, self.config
        rows = validation_rows(config, len(self.validation.labels), self.seed, len(progress.curve))
        predictions, loss = self.step.evaluate(self.validation, rows, self.evaluation_seed())
        if not math.isfinite(loss):
            progress.diverge(progress.step, "validation logits")
            return
        accuracy = float(np.mean(predictions == self.validation.labels[rows]))
        progress.curve.append(
            {
                "step": progress.step,
                "train_loss": progress.train_loss,
                "validation_loss": loss,
                "validation_accuracy": accuracy,
                "lr": learning_rate(config, progress.step - 1),
                "seconds": round(progress.train_seconds, 3),
            }
        )
        if accuracy > progress.best_accuracy:
            progress.best_accuracy = accuracy
            if config.select == "best" and progress.step >= config.select_after * config.steps:
                progress.best_step = progress.step
                self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        progress.log_bytes = self.folder.log(progress.curve[-1] | {"real_tokens": progress.real_tokens})

    def evaluation_seed(self) -> int:
        """A function of (seed, step), so that what an attention draws in an evaluation is the same in a resumed run."""
        return seed_of(self.seed, "evaluation", self.progress.step)

    def test(self, samples: Samples, rows: np.ndarray) -> np.ndarray | None:
        """Predictions for these rows of the test split; None if a logit is not finite, and the run has diverged."""
        predictions, loss = self.step.evaluate(samples, rows, self.evaluation_seed())
        if math.isfinite(loss):
            return predictions
        self.progress.diverge(self.progress.step, "test logits")
        return None
