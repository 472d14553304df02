"""Processes that each compute a share of the rows, as on GPUs: here two on the CPU that do not take turns."""

import multiprocessing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from asking import asked
from steps import CPU
from torch import nn
from torch.testing import assert_close

import tasks
from lra.config.schema import Train
from lra.experiments.build import make_model, padding_of
from lra.experiments.plan import plan
from lra.experiments.run import Run
from lra.training.device import Padding
from lra.training.distributed import Group, alone, open_store, together
from lra.training.step import Step

SPEC = tasks.Spec(vocab=16, classes=10, length=40)
ROWS = np.random.default_rng(0).permutation(100)[:30]  # of the first batch
TESTED = (89, 1)  # rows of two evaluations: one process has more of the first, and none of the second


class Sharing(Group):
    """A group on the CPU that shares rows as a group of GPUs does, and is otherwise unchanged."""

    @property
    def takes_turns(self) -> bool:
        return False


def samples() -> tasks.Split:
    """A hundred rows of random lengths, each of a token of its class, so that three steps learn something."""
    random = np.random.default_rng(1)
    lengths, labels = random.integers(1, 41, 100).astype(np.int32), random.integers(0, 10, 100)
    values = np.where(np.arange(40) < lengths[:, None], labels[:, None], 0).astype(np.uint8)
    return tasks.Split(values, lengths, labels)


def watch(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    """Updates a running statistic in training, as BatchNorm does."""
    if model.training:
        model.seen.mul_(0.9).add_(inputs[0].float().mean())  # pyright: ignore[reportCallIssue]


def train(run: Run, group: Group, watched: bool = False) -> dict[str, Any]:
    """The results of three steps and two evaluations."""
    # A large eps: with a small one, Adam turns rounding errors into steps, and a doubled gradient into the same step
    config = replace(run.config.train, steps=9, warmup=0, lr=0.03, clip="value", clip_at=0.02, eps=1e-3)
    model, split = make_model(run, SPEC), samples()
    if watched:
        model.register_buffer("seen", torch.zeros(()))
        model.register_forward_pre_hook(watch)
    step = Step(model, config, CPU, padding_of(run, SPEC), seed=0, group=group)
    losses = [float(step(split, (ROWS + number) % 100, number)) for number in range(3)]
    evaluations = [step.evaluate(split, np.arange(rows)) for rows in TESTED]
    return {
        "losses": losses + [loss for _, loss in evaluations],
        "weights": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "predictions": [predictions.tolist() for predictions, _ in evaluations],
        "tokens": step.real_tokens,
    }


def share(rank: int, port: int, run: Run, watched: bool, answers: Any) -> None:
    """The work of one of the two processes."""
    torch.set_num_threads(1)
    with together(port, "shares", rank, 2) as group:
        found = train(run, Sharing(group.rank, group.size, group.device, group.store), watched)
    answers.put((rank, found | {"weights": {name: t.numpy() for name, t in found["weights"].items()}}))


def in_two_processes(context: Any, run: Run, watched: bool = False) -> list[dict[str, Any]]:
    """The results of `train` in each of two processes."""
    store, answers = open_store(), context.Queue()
    both = [
        context.Process(target=share, args=(rank, store.port, run, watched, answers), daemon=True) for rank in (0, 1)
    ]
    for process in both:
        process.start()
    try:
        found = dict(answers.get(timeout=120) for _ in both)
    finally:
        for process in both:
            process.join(10)
            process.kill()
    return [found[0], found[1]]


def test_two_shares_are_the_batch(forks: Any):
    """Every process has the mean gradient, clipped after averaging, and the predictions of all rows."""
    overrides = ("model.dropout=0.0", "train.batch=30")
    (run,) = plan(asked(overrides=overrides))
    one = train(run, alone(CPU.torch_device))
    assert len({prediction for found in one["predictions"] for prediction in found}) > 3
    two = in_two_processes(forks, run)
    for each in two:
        assert each["losses"] == pytest.approx(one["losses"], rel=1e-5)
        assert each["predictions"] == one["predictions"]
        assert each["tokens"] == one["tokens"]
        for name, weights in one["weights"].items():
            assert_close(torch.from_numpy(each["weights"][name]), weights, rtol=1e-5, atol=1e-6, msg=name)
            np.testing.assert_array_equal(each["weights"][name], two[0]["weights"][name], err_msg="ranks differ")


def test_what_training_updates_is_the_same_in_every_process():
    """Although each process saw other rows, the running statistic is the same in all."""
    (run,) = plan(asked(overrides=("model.dropout=0.0", "train.batch=30", "train.gear=eager")))
    both = in_two_processes(multiprocessing.get_context("spawn"), run, watched=True)
    first, second = (found["weights"]["seen"] for found in both)
    assert first > 0
    assert first == second


def mask(group: Group, number: int = 5, micro_batch: int = 2) -> list[float]:
    """The result of dropout on a hundred ones, in this micro-batch of this step."""
    config = Train(steps=9, batch=6, lr=0.0, warmup=0, evaluate_every=1)
    step = Step(nn.Linear(2, 2), config, CPU, Padding(length=4), seed=3, group=group)
    step.number = number
    step.reseed(micro_batch)
    return nn.functional.dropout(torch.ones(100)).tolist()


def test_dropout_differs_between_shares_and_not_between_turns():
    """In turns, a micro-batch has the same mask in every process; shares have different masks."""
    single, *turns = (mask(Group(rank, size, CPU.torch_device)) for rank, size in ((0, 1), (0, 2), (1, 2)))
    assert turns == [single, single]
    shares = [mask(Sharing(rank, 3, CPU.torch_device)) for rank in (0, 1, 2)]
    assert len(set(map(tuple, shares))) == 3
    assert shares[1] == mask(Sharing(1, 3, CPU.torch_device)), "a function of seed, process, step and micro-batch"
    others = [mask(Sharing(1, 3, CPU.torch_device), *at) for at in ((6, 2), (5, 3))]
    assert all(other not in shares for other in others)
