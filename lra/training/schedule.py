"""Learning rate and beta1 of every step: pure functions of the configuration."""

import math

from lra.config.schema import Train


def rise(config: Train, step: int) -> float:
    """0 at step 0, 1 at step `warmup` - 1, 0 at the last step, linear between, as OneCycleLR (if warmup > 1)."""
    if step < config.warmup and config.warmup > 1:
        return step / (config.warmup - 1)
    return (config.steps - step - 1) / max(1, config.steps - config.warmup)


def learning_rate(config: Train, step: int) -> float:
    """The rate of step 0, 1, ...: by default it rises from start_lr * lr to lr, then falls to end_lr * lr."""
    if config.schedule == "rsqrt":
        warmup = max(1, config.warmup)
        return config.lr * min(1.0, (step + 1) / warmup) / math.sqrt(max(step + 1, warmup))
    low = config.start_lr if step < config.warmup else config.end_lr
    height = rise(config, step)
    if config.schedule == "cosine" and step >= config.warmup:
        height = (1 - math.cos(math.pi * height)) / 2
    return config.lr * (low + (1 - low) * height)


def momentum(config: Train, step: int) -> float:
    """beta1 of a step; with cycle_beta1 it falls from 0.95 to 0.85 while the rate rises, and then rises again."""
    return 0.95 - 0.10 * rise(config, step) if config.cycle_beta1 else config.beta1
