"""Losses that must not change. If one does, raise RESULTS_VERSION in lra/results/record.py and write the new losses:
first losses into tests/naive/<name>.py, the losses of a training into LOSSES.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from asking import asked
from naive import load

import attention_zoo
import tasks
from lra.experiments.build import make_model, padding_of
from lra.experiments.plan import Request, plan
from lra.results.record import RESULTS_VERSION
from lra.training.device import Device
from lra.training.distributed import alone
from lra.training.loop import Trainer
from lra.training.run_folder import NoFolder
from lra.training.step import Step

SPEC = tasks.Spec(vocab=16, classes=10, length=60)
TRAINING = ("train.steps=20", "train.batch=96", "train.evaluate_every=20", "train.lr=1e-2", "train.warmup=5",
            "train.clip=norm", "train.clip_at=0.1", "train.weight_decay=0.3", "train.cycle_beta1=true",
            "model.dropout=0.2")  # fmt: skip
# the training losses of the 20 steps, and the validation loss after them
LOSSES = (2.3248, 2.34143, 2.29895, 2.25638, 2.18786, 2.08271, 1.97567, 1.85617, 1.78563, 1.70958, 1.6148, 1.5231,
          1.45491, 1.42419, 1.34082, 1.26974, 1.26317, 1.22036, 1.26021, 1.18229, 1.16548)  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("name", attention_zoo.names())
def test_first_loss(name):
    """Cross-entropy of the untrained quick model, seed 0, on 8 rows of fixed ids, a third of them padding."""
    assert RESULTS_VERSION == 3
    cell = plan(Request(attentions=[name], tasks=["listops"], seeds=[0], protocol="quick"))[0]
    ids = torch.arange(8 * 60).reshape(8, 60) * 7919 % 15 + 1
    keep = torch.arange(60) < torch.arange(25, 65, 5)[:, None]
    logits = make_model(cell, SPEC).eval()(torch.where(keep, ids, 0), keep)
    loss = float(F.cross_entropy(logits, torch.arange(8)))
    assert math.isclose(loss, load(name).loss, abs_tol=1e-5), loss


def samples() -> tasks.Split:
    """300 rows of 40 to 60 tokens, whose classes can be learned: the ids of class c are c to c + 5."""
    rows, columns = np.arange(300)[:, None], np.arange(60)
    lengths, labels = 40 + rows[:, 0] * 7 % 21, rows[:, 0] % 10
    values = (31 * rows + 17 * columns**2 + 7 * rows * columns) // 4 % 6 + labels[:, None]
    values = np.where(columns < lengths[:, None], values, 0)
    return tasks.Split(values.astype(np.uint8), lengths.astype(np.int32), labels)


def test_losses_of_a_training():
    """The loss of every step with dropout, clipping, weight decay and a moving beta1, in several micro-batches.

    CPUs differ by 1e-6 here, so another loss is another arithmetic of training. If that was not meant, the change is
    wrong. If it was, records of before and after must not be compared: raise RESULTS_VERSION, say in CHANGELOG.md what
    moved, and write the losses that this test prints into LOSSES.
    """
    assert RESULTS_VERSION == 3
    run = plan(asked(overrides=TRAINING))[0]
    cpu, split = torch.device("cpu"), samples()
    step = Step(make_model(run, SPEC), run.config.train, Device(cpu), padding_of(run, SPEC), run.seed, alone(cpu))
    trainer, losses = Trainer(step, split, split, NoFolder(Path("unused"), 0), run.seed), []
    trainer.run(lambda _: losses.append(float(step.optimiser.loss)) is not None)
    losses.append(trainer.progress.curve[-1]["validation_loss"])
    assert losses == pytest.approx(LOSSES, rel=5e-4), f"LOSSES = {tuple(round(loss, 5) for loss in losses)}"
