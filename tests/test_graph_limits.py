"""Limits of CUDA graphs that show without a GPU: random draws on the host, no memory, eps of 0."""

import random

import numpy as np
import pytest
import torch
from steps import Recorder
from test_model_faults import SPLIT, TRAIN, Plain, step_in  # noqa: F401 -- step_in is a fixture

from lra.config.schema import Train
from lra.training.captured import draws_on_the_host
from lra.training.optimiser import FlatAdamW

ROWS = np.arange(12)


@pytest.mark.parametrize(
    ("draw", "on_the_host"),
    [
        (lambda: random.random(), True),
        (lambda: np.random.rand(), True),
        (lambda: torch.rand(()), True),
        (lambda: torch.rand((), generator=torch.Generator()), False),
        (lambda: np.random.default_rng(0).random(), False),
        (lambda: torch.ones(3).sum(), False),
    ],
)
def test_draws_that_a_replay_would_not_repeat(draw, on_the_host):
    assert draws_on_the_host(draw) == on_the_host


class Full(Recorder):
    """A GPU whose memory is full of earlier graphs."""

    def __call__(self, function, touched):  # noqa: ARG002
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_without_room_for_another_graph_a_step_is_compiled(step_in, capsys):  # noqa: F811
    """As when a capture fails; but running out of memory without graphs is an error."""
    step, plain = step_in(Plain, "captured"), step_in(Plain, "compiled")
    step.gears.gear.recorder = Full()
    loss = step(SPLIT, ROWS, 0)
    assert step.gears.gear.name == "compiled"
    assert "captured failed: OutOfMemoryError: CUDA out of memory" in capsys.readouterr().err
    torch.testing.assert_close(loss, plain(SPLIT, ROWS, 0))
    with pytest.raises(torch.OutOfMemoryError):
        step.gears.fall_back(torch.OutOfMemoryError("CUDA out of memory"))


def test_the_first_state_of_the_optimiser_moves_nothing():
    """Also with an eps of 0, where AdamW divides 0 by 0."""
    model = torch.nn.Linear(3, 2)
    before = [p.detach().clone() for p in model.parameters()]
    config = Train(**{**vars(TRAIN), "eps": 0.0})
    FlatAdamW([*model.parameters()], config).set_static(True)
    for parameter, value in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, value)
