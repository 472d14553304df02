"""The optimiser against PyTorch's: AdamW, clipping, the learning rate and beta1 of every step."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lra.config.schema import Train
from lra.training.optimiser import FlatAdamW
from lra.training.schedule import learning_rate

STEPS, WARMUP = 12, 4
SCALES = (0.02, 5.0, 0.3, 30.0)  # of the gradients of successive steps, of which some are clipped
SHAPES = ((5, 3), (3,), (2, 2, 2))


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def gradients(step: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(step + 1)
    return [SCALES[step % len(SCALES)] * torch.randn(shape, generator=generator) for shape in SHAPES]


def weights_of_the_suite(config: Train, static: bool) -> list[list[torch.Tensor]]:
    """The parameters after each step. static: the optimiser computes each rate itself, as in a captured step."""
    moved, after = parameters(), []
    optimiser = FlatAdamW(moved, config)
    optimiser.set_static(static)
    for step in range(STEPS):
        optimiser.gradient.copy_(torch.cat([gradient.flatten() for gradient in gradients(step)]))
        if not static:
            optimiser.schedule(step)
        optimiser.move()
        after.append([p.detach().clone() for p in moved])
    return after


def weights_of_torch(config: Train) -> list[list[torch.Tensor]]:
    """The parameters after each step of PyTorch's AdamW, clipping and OneCycleLR."""
    moved, after = parameters(), []
    optimizer = torch.optim.AdamW(
        moved, config.lr, (config.beta1, config.beta2), config.eps, config.weight_decay, fused=False, foreach=False
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.lr, STEPS, pct_start=WARMUP / STEPS, anneal_strategy="linear",
        cycle_momentum=config.cycle_beta1,
    )  # fmt: skip
    for step in range(STEPS):
        if step:
            schedule.step()
        for parameter, gradient in zip(moved, gradients(step), strict=True):
            parameter.grad = gradient
        if config.clip == "norm":
            nn.utils.clip_grad_norm_(moved, config.clip_at)
        elif config.clip == "value":
            nn.utils.clip_grad_value_(moved, config.clip_at)
        optimizer.step()
        after.append([p.detach().clone() for p in moved])
    return after


@pytest.mark.parametrize("kind", ["scheduled", "cycle_beta1", "static"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("clip", ["norm", "value", "none"])
def test_every_step_is_that_of_torch(clip, decay, kind):
    """The size of gradients changes from step to step, because a constant factor would not change AdamW's steps.

    OneCycleLR starts at 0.04 of the peak and ends at 4e-6 of it.
    """
    config = Train(
        steps=STEPS, batch=1, lr=0.05, warmup=WARMUP, evaluate_every=1, start_lr=0.04, end_lr=4e-6,
        beta1=0.8, beta2=0.99, eps=1e-3, weight_decay=decay, cycle_beta1=kind == "cycle_beta1", clip=clip, clip_at=0.7,
    )  # fmt: skip
    actual, reference = weights_of_the_suite(config, kind == "static"), weights_of_torch(config)
    for step, (weights, expected_weights) in enumerate(zip(actual, reference, strict=True)):
        for parameter, expected in zip(weights, expected_weights, strict=True):
            assert_close(parameter, expected, rtol=1e-5, atol=1e-6, msg=lambda told, at=step: f"step {at}: {told}")


def test_the_whole_cosine():
    """Linear up to the peak, then PyTorch's CosineAnnealingLR down to the last step."""
    config = Train(steps=40, batch=1, lr=0.3, warmup=9, evaluate_every=1, schedule="cosine", start_lr=0.1, end_lr=0.02)
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=0.3)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40 - 9, eta_min=0.02 * 0.3)
    for step in range(40):
        if step >= 9:
            optimizer.step()
            falling.step()
        rising = 0.3 * (0.1 + 0.9 * min(step, 8) / 8)
        expected = rising if step < 9 else optimizer.param_groups[0]["lr"]
        assert math.isclose(learning_rate(config, step), expected, rel_tol=1e-9), step


@pytest.mark.parametrize("warmup", [0, 1, 10, 100])
def test_the_whole_reciprocal_root(warmup):
    """The factor and the form of Vaswani et al. 2017, lr * min(t^-0.5, t * W^-1.5); a run may end in its warm-up."""
    config = Train(steps=40, batch=1, lr=0.05, warmup=warmup, evaluate_every=1, schedule="rsqrt")
    for t in range(1, 41):
        expected = 0.05 * min(t**-0.5, t * max(1, warmup) ** -1.5)
        assert math.isclose(learning_rate(config, t - 1), expected, rel_tol=1e-9), t
