"""The training loop: order of samples, evaluation, best checkpoint by validation, resume after any kill.

What a step does is a function of (seed, step) and the weights alone, so a resumed run ends with the same bits.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from lra.config.schema import Train
from lra.errors import WorkError
from lra.hashing import seed_of
from lra.training.batches import Samples
from lra.training.progress import Progress
from lra.training.run_folder import Work
from lra.training.schedule import learning_rate
from lra.training.step import Step

LOG_EVERY = 50  # steps between lines of metrics.jsonl
SAVE_EVERY = 60.0  # seconds between checkpoints


def order(rows: int, batch: int, seed: int, step: int) -> np.ndarray:
    """Rows of step 0, 1, ...: positions step * batch + i of the concatenated permutations of all epochs."""
    parts, start, need = [], step * batch, batch
    while need:
        epoch, offset = divmod(start, rows)
        part = permutation(rows, seed, epoch)[offset : offset + need]
        parts.append(part)
        start, need = start + len(part), need - len(part)
    return np.concatenate(parts)


_last_permutation: dict[tuple[int, int, int], np.ndarray] = {}


def permutation(rows: int, seed: int, epoch: int) -> np.ndarray:
    """The order of one epoch, a pure function; the last one is kept, because every step asks for it."""
    key = (rows, seed, epoch)
    if key not in _last_permutation:
        generator = torch.Generator().manual_seed(seed_of(seed, "order", epoch))
        _last_permutation.clear()
        _last_permutation[key] = torch.randperm(rows, generator=generator).numpy()
    return _last_permutation[key]


def evaluation_rows(config: Train, rows: int) -> np.ndarray:
    """The whole split, unless the quirk drops its last, incomplete batch (never all of it)."""
    return np.arange(rows - rows % config.batch if config.drop_last and rows >= config.batch else rows)


def validation_rows(config: Train, rows: int, seed: int, evaluation: int) -> np.ndarray:
    """Rows of evaluation 0, 1, ...: all, or the quirk: some batches of an endless reshuffled loader."""
    if not config.validation_batches:
        return evaluation_rows(config, rows)
    return order(rows, config.validation_batches * config.batch, seed_of(seed, "validation"), evaluation)


class Trainer:
    """Trains `step.model`; `work` keeps what is needed to go on after a kill."""

    def __init__(self, step: Step, train: Samples, validation: Samples, work: Work, seed: int):
        self.step, self.model, self.config = step, step.model, step.config
        self.train, self.validation, self.work, self.seed = train, validation, work, seed
        self.progress = Progress()
        self.best: dict[str, Tensor] | None = None

    def restore(self) -> bool:
        """Goes on from the checkpoint, if there is one. Raises WorkError when it is damaged."""
        state = self.work.load_state()
        if state is not None:
            self.model.load_state_dict(state["model"])
            self.best = state["best"]
            try:
                self.step.update.load_state_dict(state["update"])
                self.progress = Progress(**state["progress"])
            except (KeyError, TypeError) as error:
                raise WorkError(f"{self.work.resume} is of another version; delete it to start again") from error
        self.work.open_log(self.progress.log_bytes)
        return state is not None

    def save(self) -> None:
        self.work.save_state(
            {
                "model": self.model.state_dict(),
                "update": self.step.update.state_dict(),
                "best": self.best,
                "progress": asdict(self.progress),
            }
        )

    def run(self, observe: Callable[[Progress], None]) -> Progress:
        """To the last step, or to the first whose loss is not finite. `observe` is called after every step."""
        progress, config = self.progress, self.config
        saved = clock = time.monotonic()
        while progress.step < config.steps:
            rows = order(len(self.train.labels), config.batch, self.seed, progress.step)
            self.step(self.train, rows, progress.step)
            self.note()
            last = progress.step == config.steps
            due = last or progress.step % config.evaluate_every == 0
            if due or progress.step % LOG_EVERY == 0 or self.step.place.device.type == "cpu":
                self.check()
            now = time.monotonic()
            progress.train_seconds, clock = progress.train_seconds + now - clock - self.compiled(), now
            if progress.diverged_at is not None:
                break
            if last or progress.step % LOG_EVERY == 0:
                self.log()
            if due:
                self.evaluate()
                clock = time.monotonic()
                progress.evaluate_seconds += clock - now - self.compiled()
            if clock > now or clock - saved > SAVE_EVERY:  # after an evaluation, or when it is time
                self.save()
                saved = clock = time.monotonic()
            observe(progress)
        return progress

    def note(self) -> None:
        """Counts a step without waiting for the device."""
        progress, step = self.progress, self.step
        progress.step += 1
        progress.real_tokens, step.real_tokens = progress.real_tokens + step.real_tokens, 0
        progress.computed_tokens, step.computed_tokens = progress.computed_tokens + step.computed_tokens, 0

    def compiled(self) -> float:
        """Seconds spent on compiling since the last call, added to their own account."""
        seconds, self.step.gear.compile_seconds = self.step.gear.compile_seconds, 0.0
        self.progress.compile_seconds += seconds
        return seconds

    def check(self) -> None:
        """Reads the device: the mean loss since the last line of the log, and whether a loss stopped being finite."""
        update = self.step.update
        self.progress.train_loss = float(update.loss_sum) / ((self.progress.step - 1) % LOG_EVERY + 1)
        self.progress.diverged_at = int(update.bad_step) or None

    def log(self) -> None:
        """One line of metrics.jsonl: the mean loss since the line before, lr, speed."""
        progress = self.progress
        self.step.update.forget()
        line = {
            "step": progress.step,
            "train_loss": progress.train_loss,
            "lr": learning_rate(self.config, progress.step - 1),
            "real_tokens": progress.real_tokens,
            "computed_tokens": progress.computed_tokens,
            "seconds": round(progress.train_seconds, 3),
            "compile_seconds": round(progress.compile_seconds, 3),
        }
        progress.log_bytes = self.work.log(line)

    def evaluate(self) -> None:
        """Validation; keeps the weights when they are the best so far."""
        progress, config = self.progress, self.config
        rows = validation_rows(config, len(self.validation.labels), self.seed, len(progress.curve))
        predictions, loss = self.step.evaluate(self.validation, rows)
        accuracy = float(np.mean(predictions == self.validation.labels[rows]))
        progress.curve.append(
            {
                "step": progress.step,
                "train_loss": progress.train_loss,
                "validation_loss": loss if math.isfinite(loss) else None,
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
        progress.log_bytes = self.work.log(progress.curve[-1] | {"real_tokens": progress.real_tokens})
