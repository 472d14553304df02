"""Captured steps on a CUDA device, where the CPU tests replace the recorder."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from lra.config.schema import Train
from lra.experiments.build import make_model, padding_of
from lra.experiments.data import load_task_data
from lra.experiments.plan import Request, plan
from lra.results.machine import graph_bytes
from lra.training.captured import Captured, CaptureError, CUDARecorder
from lra.training.device import Device, set_backends
from lra.training.distributed import alone
from lra.training.eager import Eager
from lra.training.optimiser import FlatAdamW
from lra.training.turns import Turns

pytestmark = pytest.mark.gpu
CONFIG = Train(steps=9, batch=30, lr=1e-3, warmup=0, evaluate_every=1)
ROWS = np.random.default_rng(0).permutation(60)[:30]


def device():
    """The last device, so that with several GPUs it is not the current one."""
    return torch.device("cuda", torch.cuda.device_count() - 1)


def gears(tiny, attention, *overrides, precision="float32"):
    """An eager and a captured gear of one model, their optimisers and the samples, set up as in a run."""
    set_backends(False)
    asked = Request(
        attentions=[attention],
        tasks=["listops"],
        seeds=[0],
        protocol=tiny,
        overrides=("train.batch=30", "data.max_length=32", *overrides),
    )
    cell = plan(asked)[0]
    data = load_task_data("listops", cell.config, None).data
    place = Device(device(), precision), padding_of(cell, data.spec)
    model = make_model(cell, data.spec).to(device())
    eager = FlatAdamW(list(model.parameters()), CONFIG)
    Eager(model, *place).gradients(data.train, ROWS, Turns(alone(eager.flat.device), eager.flat), lambda _: None)
    optimiser = FlatAdamW(list(model.parameters()), CONFIG)
    return eager, Captured(model, *place, optimiser=optimiser, batch=30), optimiser, data.train


def seed_all(seed):
    torch.manual_seed(seed)


def gradient(gear, update, samples, seed=0):
    update.flat.zero_()
    gear.gradients(samples, ROWS, Turns(alone(update.flat.device), update.flat), lambda number: seed_all(seed + number))
    return update.flat.clone()


@pytest.mark.parametrize("attention", ["elu", "pola", "agent", "softmax", "linformer", "fnet", "s4d", "nystrom"])
def test_captured_gradients_are_eager_ones(tiny, attention):
    eager, gear, update, samples = gears(tiny, attention, "model.dropout=0.0")
    for _ in range(2):
        assert_close(gradient(gear, update, samples), eager.flat, rtol=1e-3, atol=1e-5)
    assert graph_bytes(device()) > 0


@pytest.mark.parametrize("attention", ["elu", "pola", "agent", "softmax", "nystrom"])
def test_captured_gradients_in_bfloat16(tiny, attention):
    """Long sums are float32 in both gears, so that only the rounding of other products differs."""
    eager, gear, update, samples = gears(tiny, attention, "model.dropout=0.0", precision="bfloat16")
    found = gradient(gear, update, samples)
    assert float((found - eager.flat).norm() / eager.flat.norm()) < 0.02


def test_a_replay_draws_by_its_seed(tiny):
    _, gear, update, samples = gears(tiny, "elu", "model.dropout=0.3")
    first, other, again = (gradient(gear, update, samples, seed) for seed in (0, 100, 0))
    assert_close(first, again, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(first, other, rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")  # torch calls it a prototype
def test_a_replayed_step_does_not_wait(tiny):
    _, gear, update, samples = gears(tiny, "pola", "model.dropout=0.1")
    for _ in range(2):
        gradient(gear, update, samples)
        gear.move(update, 0)
    try:
        torch.cuda.set_sync_debug_mode("error")
        gradient(gear, update, samples)
        gear.move(update, 0)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_after_a_failed_capture_work_goes_on():
    x = torch.ones(1000, device=device())
    stream = torch.cuda.current_stream(device())

    def waits():
        if float(torch.nn.functional.dropout(x).sum()) > 0:
            x.add_(1)

    with pytest.raises(CaptureError):
        CUDARecorder()(waits, [x])
    assert torch.cuda.current_stream(device()) == stream
    assert x.eq(1).all()
    torch.nn.functional.dropout(x).sum().item()

    def grow():
        x.add_(1)

    CUDARecorder()(grow, [x])()
    assert x.eq(2).all()
