"""Pretraining: before a run trains, its encoder learns to predict masked inputs of the run's own training split.

Amos, Berant and Gupta 2023, "Never Train from Scratch", https://arxiv.org/abs/2310.02980. A pretrained encoder is kept
in a folder of its own, `work/pretrained-...`, named by the hash of everything that determines it. Runs that differ only
in what follows the pretraining share it. The folder holds a checkpoint during the pretraining; `encoder.safetensors`
and `pretraining.json` say that it is done.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

import tasks
from lra.config.resolve import set_fields
from lra.console import say
from lra.errors import BusyError, WorkError
from lra.experiments.background_compiler import BackgroundCompiler
from lra.experiments.blind import blind_scores
from lra.experiments.build import make_denoiser, padding_of
from lra.experiments.data import set_doubtful_aside
from lra.experiments.run import Run
from lra.hashing import identity_of, seed_of
from lra.results import layout
from lra.results.files import write_atomically
from lra.results.reading import content_of, digest_of, encode_record, parse
from lra.results.record import RESULTS_VERSION, file_name
from lra.results.shapes import Pretraining
from lra.training.batches import order
from lra.training.device import Device
from lra.training.distributed import Group
from lra.training.loop import Trainer
from lra.training.progress import Paused, Progress
from lra.training.run_folder import NoFolder, RunFolder, kept
from lra.training.schedule import learning_rate
from lra.training.step import Step

PHASE = "pretraining"
KEYS = Pretraining.__annotations__.keys() - {"shared"}  # of pretraining.json; `shared` differs from run to run
EVALUATED = 2_000  # rows of the validation split that an evaluation reads, at most
WAIT = 1.0  # seconds between attempts to lock a folder that another process holds
Observe = Callable[[Progress], bool]


@dataclass(frozen=True)
class WithoutTest:
    """What a pretraining may read of a task's data: all but the test split."""

    sizes: tasks.Spec
    train: tasks.Split
    validation: tasks.Split


class Pretrainer(Trainer):
    """A trainer that evaluates the loss alone, always on the same rows of the validation split with the same masks."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        count = len(self.validation.labels)
        self.rows = order(count, min(count, EVALUATED), seed_of(self.seed, "validation"), 0)

    def restore(self) -> None:
        super().restore()
        self.progress.phase = PHASE

    def evaluation_seed(self) -> int:
        return seed_of(self.seed, "mask")

    def evaluate(self) -> None:
        progress = self.progress
        _, loss = self.step.evaluate(self.validation, self.rows, self.evaluation_seed())
        if not math.isfinite(loss):
            progress.diverge(progress.step, "validation loss")
            return
        point = {
            "step": progress.step,
            "train_loss": progress.train_loss,
            "validation_loss": loss,
            "lr": learning_rate(self.config, progress.step - 1),
            "seconds": round(progress.train_seconds, 3),
        }
        progress.curve.append(point)
        progress.log_bytes = self.folder.log(point | {"real_tokens": progress.real_tokens})


def identity_of_pretraining(run: Run, data_hash: str) -> str:
    """Hash of everything that shapes the encoder. run: with the settings of the pretraining as its `train` section."""
    model, train = set_fields(run.config.model), set_fields(run.config.train)
    return identity_of(
        {
            "task": run.task,
            "data": data_hash,
            "model": {key: value for key, value in model.items() if key != "head"},
            "train": {key: value for key, value in train.items() if key not in ("precision", "gear")},
            "attention": run.mechanism(),
            "seed": run.seed,
            "precision": run.precision,
            "results_version": RESULTS_VERSION,
        }
    )


def pretraining_of(run: Run) -> Run:
    """The run with the settings of its pretraining as its `train` section."""
    return replace(run, config=replace(run.config, train=run.config.train.of_pretraining()))


def folder_name(run: Run, data_hash: str) -> str:
    """The name of the folder that the run's pretraining is kept in."""
    identity = identity_of_pretraining(pretraining_of(run), data_hash)
    return f"pretrained-{file_name(run.task, run.recorded_row, run.config.train.pretrain, run.seed, identity)}"


def start_pretrained(run: Run, data: tasks.Data, trainer: Trainer, work: Path, should_stop: Observe) -> None:
    """Pretrains the encoder, or reads it, and loads its weights into the trainer's model, which keeps its own head.

    work: the folder that holds the encoder's folder. Every process of the trainer's group calls this. If the
    pretraining diverged, the run has diverged, too. Raises Paused as a trainer does, and WorkError for damaged files.
    """
    pretraining, group = pretraining_of(run), trainer.step.group
    identity = identity_of_pretraining(pretraining, data.hash)
    path = work / folder_name(run, data.hash)
    folder = NoFolder(path, group.rank) if group.rank else RunFolder(path)
    with contextlib.ExitStack() as stack:
        finished = read(folder, data)
        stop = False
        if isinstance(folder, RunFolder) and finished is None:
            stop = not hold(folder, run, should_stop, stack)
            finished = read(folder, data)
        if group.broadcast(stop):
            raise Paused
        finished = group.broadcast(finished)
        if finished is None:
            set_doubtful_aside(folder, data, f"pretraining of {run.task} {run.row} seed {run.seed}")
            about = {"identity": identity, "by": run.identity(data.hash)}
            readable = WithoutTest(data.spec, data.train, data.validation)
            finished = pretrain(pretraining, readable, folder, group, should_stop, about)
    about, weights = finished
    trainer.progress.pretraining = about | {"shared": about["by"] != run.identity(data.hash)}
    if about["reason"]:
        trainer.progress.diverged_at = about["steps"]
        trainer.progress.diverged_reason = f"pretraining: {about['reason']}"
        return
    missing, unexpected = trainer.model.load_state_dict(weights, strict=False)
    if unexpected or any(not name.startswith("head.") for name in missing):
        raise WorkError(f"{path} holds another model's weights; delete it to pretrain again")


def hold(folder: RunFolder, run: Run, should_stop: Observe, stack: contextlib.ExitStack) -> bool:
    """Locks the folder until the stack is closed; waits for a process that holds it. False: it should stop."""
    waiting = Progress(phase=PHASE)
    while True:
        try:
            stack.enter_context(folder.lock())
        except BusyError:
            if not waiting.activity:
                say(f"{run.task} {run.row} seed {run.seed}: waits for its pretraining, which another process is doing")
            waiting.activity = "another process is pretraining"
            if should_stop(waiting):
                return False
            time.sleep(WAIT)
        else:
            return True


def read(folder: RunFolder | NoFolder, data: tasks.Data) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """The facts and the weights of a finished pretraining. Raises WorkError for damaged files.

    None if there is none, or if it may have been trained on damaged data.
    """
    if isinstance(folder, NoFolder) or not (path := folder.folder / layout.PRETRAINING).exists():
        return None
    if tasks.is_doubtful(data, path.stat().st_mtime):
        return None
    try:
        about = parse(content_of(path))
        if (digest := about.pop("digest", None)) is not None and digest != digest_of(about):  # older files have none
            raise ValueError("it has changed since it was written")
        if unknown := about.keys() - KEYS:
            raise ValueError(f"unknown {min(unknown)}")
        if not about["reason"] and hash_of(folder.folder / layout.weights_file(layout.ENCODER)) != about["weights"]:
            raise WorkError(f"{path.parent} is damaged; delete it to pretrain again")
        weights = {} if about["reason"] else folder.load_weights(layout.ENCODER)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WorkError(f"{path} is damaged ({error}); delete {path.parent} to pretrain again") from error
    return about, weights


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def pretrain(
    run: Run,
    data: WithoutTest,
    folder: RunFolder | NoFolder,
    group: Group,
    should_stop: Observe,
    about: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Pretrains, or continues from a checkpoint; writes the files that `read` reads, and returns what it would return.

    run: with the settings of the pretraining as its `train` section. about: further facts for pretraining.json.
    """
    seed, config = seed_of(run.seed, PHASE), run.config.train
    denoiser = make_denoiser(run, data.sizes).to(group.device)
    step = Step(denoiser, config, Device(group.device, run.precision), padding_of(run, data.sizes), seed, group)
    trainer = Pretrainer(step, data.train, data.validation, folder, seed)
    trainer.restore()
    with contextlib.ExitStack() as stack:
        if trainer.progress.step < step.gears.shift_at and group.rank == 0:
            trainer.compiler = stack.enter_context(BackgroundCompiler(run, data.sizes, data.train, pretraining=True))
        progress = trainer.run(should_stop)
    weights = {name: tensor.detach().cpu() for name, tensor in denoiser.encoder.state_dict().items()}
    about |= {
        "share": config.pretrain_share,
        "steps": progress.step,
        "seconds": {
            account: round(getattr(progress, f"{account}_seconds"), 3) for account in ("compile", "train", "evaluate")
        },
        "tokens": progress.real_tokens,
        "curve": progress.curve,
        "gear": step.gears.name,
        "reason": progress.diverged_reason,
    }
    if isinstance(folder, RunFolder):
        about["blind"] = blind_scores(data.train, data.validation, trainer.rows, step.padding, seed)
        folder.save_weights(layout.ENCODER, weights)
        about["weights"] = hash_of(folder.folder / layout.weights_file(layout.ENCODER))
        with kept(path := folder.folder / layout.PRETRAINING):
            write_atomically(path, encode_record(about))
        folder.finish()
    return group.broadcast(about), weights
