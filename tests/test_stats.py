"""Noise of accuracies: that of the test rows, and that of the seeds."""

import math

import pytest

from lra import stats


def test_noise_is_binomial_and_over_seeds_in_quadrature():
    one, three = stats.summarise([0.4]), stats.summarise([0.40, 0.41, 0.42])
    assert (one.deviation, one.count, three.count) == (None, 1, 3)
    assert three.mean == pytest.approx(0.41)
    assert three.deviation == pytest.approx(0.01)
    assert stats.binomial_half_width(0.5, 10_000) == pytest.approx(0.0098)
    assert stats.half_width(one, 10_000) == stats.binomial_half_width(0.4, 10_000)
    assert stats.half_width(three, 10_000) == pytest.approx(
        math.hypot(stats.binomial_half_width(three.mean, 10_000), 1.96 * 0.01 / math.sqrt(3))
    )
    assert stats.within_noise(one, 10_000, 0.409)
    assert not stats.within_noise(one, 10_000, 0.41)
