"""Sampling noise of an accuracy that was counted on so many rows; standard library only, for the training loop."""

import math
import statistics

Z = statistics.NormalDist().inv_cdf(0.975)  # 1.96: half of a 95 % interval in standard errors


def binomial_half_width(accuracy: float, rows: int, tests: int = 1) -> float:
    """Half of the 95 % interval of an accuracy (a fraction) that was counted on so many rows; infinite on none.

    tests: how many accuracies are held against it at once (Bonferroni).
    """
    z = Z if tests <= 1 else statistics.NormalDist().inv_cdf(1 - 0.025 / tests)
    return z * math.sqrt(accuracy * (1 - accuracy) / rows) if rows else math.inf
