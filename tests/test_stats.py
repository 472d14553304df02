"""Noise of accuracies, intervals and tests against known values, and their level by simulation."""

import math
import statistics

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from lra import stats
from lra.stats import binomial_half_width


def test_noise_is_binomial_and_over_seeds_in_quadrature():
    one, two, three = (stats.summarise(values) for values in ([0.4], [0.40, 0.42], [0.40, 0.41, 0.42]))
    assert (one.deviation, one.count, three.count) == (None, 1, 3)
    assert three.mean == pytest.approx(0.41)
    assert three.deviation == pytest.approx(0.01)
    assert binomial_half_width(0.5, 10_000) == pytest.approx(0.0098, rel=1e-4)
    assert binomial_half_width(0.5, 0) == math.inf
    assert stats.half_width(one, 10_000) == binomial_half_width(0.4, 10_000)
    assert stats.half_width(three, 10_000) == pytest.approx(
        math.hypot(binomial_half_width(three.mean, 10_000), 4.302653 * 0.01 / math.sqrt(3))
    )
    assert stats.half_width(two, 10_000) == pytest.approx(
        math.hypot(binomial_half_width(two.mean, 10_000), 1.959964 * 0.01)
    )
    low, high = three.interval or (0, 0)  # of the seeds alone: the same quantile
    assert stats.half_width(three, 10**12) == pytest.approx((high - low) / 2, rel=1e-4)
    assert stats.within_noise(one, 10_000, 0.409)
    assert not stats.within_noise(one, 10_000, 0.41)


def test_no_interval_below_three_seeds_and_students_from_there():
    assert stats.summarise([0.4, 0.5]).interval is None
    assert stats.summarise([0.40, 0.41, 0.42]).interval == pytest.approx((0.41 - 0.0248414, 0.41 + 0.0248414), abs=1e-6)
    with pytest.raises(statistics.StatisticsError):
        stats.summarise([])


def test_a_difference_of_few_pairs_is_the_paired_t_test():
    ours, theirs = [0.50, 0.53, 0.52, 0.55], [0.48, 0.50, 0.52, 0.50]
    found = stats.difference(ours, theirs, rows=10_000)
    expected = scipy.stats.ttest_rel(ours, theirs)
    low, high = expected.confidence_interval()
    assert (found.mean, found.count, found.method) == (pytest.approx(0.025), 4, "t")
    assert (found.p, found.adjusted) == (pytest.approx(expected.pvalue), found.p)
    assert found.interval == pytest.approx((low, high))
    assert found.test_half_width == pytest.approx(
        math.hypot(binomial_half_width(0.525, 10_000), binomial_half_width(0.5, 10_000))
    )
    assert not found.separated


def test_two_pairs_say_nothing_about_mechanisms():
    found = stats.difference([0.9, 0.91], [0.1, 0.11], rows=10_000)
    assert (found.interval, found.p, found.adjusted, found.detectable) == (None, None, None, None)
    assert found.mean == pytest.approx(0.8)
    assert not found.separated
    with pytest.raises(ValueError, match="argument 2"):
        stats.difference([0.9], [0.1, 0.2], rows=10)


def test_equal_differences_are_no_division_by_zero():
    assert stats.difference([0.5, 0.6, 0.7], [0.4, 0.5, 0.6], 10_000).p == 0
    assert stats.difference([0.5] * 12, [0.5] * 12, 10_000).p == 1
    equal = stats.difference([0.5] * 3, [0.5] * 3, 10_000)
    assert equal.detectable == equal.test_half_width
    assert stats.difference([0.5, 0.6, 0.7], [0.4, 0.5, 0.7], 0).detectable == math.inf


def test_what_is_within_the_noise_of_the_test_rows_is_not_separated():
    ours, theirs = [0.510, 0.511, 0.512], [0.500, 0.501, 0.502]
    assert stats.difference(ours, theirs, rows=1_000_000).separated
    assert not stats.difference(ours, theirs, rows=1_000).separated


def test_many_pairs_are_tested_by_sign_flips():
    rng = np.random.default_rng(3)
    theirs = rng.normal(0.5, 0.02, 12)
    ours = theirs + rng.normal(0.01, 0.01, 12)
    found = stats.difference(list(ours), list(theirs), rows=10_000)
    expected = scipy.stats.permutation_test(
        (ours - theirs,), np.mean, permutation_type="samples", n_resamples=2**12, vectorized=True
    )
    assert found.method == "sign flips, BCa"
    assert found.p == pytest.approx(expected.pvalue)
    assert found.interval is not None
    assert found.interval[0] < found.mean < found.interval[1]
    assert found == stats.difference(list(ours), list(theirs), rows=10_000)


def test_sign_flips_by_hand():
    assert stats.sign_flip_p([1.0, 2.0, 3.0]) == 2 / 8
    assert stats.sign_flip_p([1.0, -1.0]) == 1
    assert stats.sign_flip_p([0.01] * 20) == pytest.approx(0.0, abs=1e-4)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_bonferroni_at_the_smallest_and_keeps_the_order(ps: list[float]):
    adjusted = stats.holm(ps)
    assert adjusted[ps.index(min(ps))] == min(1.0, len(ps) * min(ps))
    assert all(0 <= p <= a <= 1 for p, a in zip(ps, adjusted, strict=True))
    pairs = sorted(zip(ps, adjusted, strict=True))
    assert [a for _, a in pairs] == sorted(adjusted)


def test_holm_by_hand():
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    three = {name: stats.difference([0.5, 0.52, 0.55], [0.4, 0.41, 0.45], 10_000) for name in ("a", "b")}
    alone = stats.difference([0.5], [0.4], 10_000)
    adjusted = stats.adjust(three | {"c": alone})
    assert adjusted["a"].adjusted == pytest.approx(2 * (three["a"].p or 0))
    assert adjusted["c"] == alone


def test_mcnemar_by_hand():
    assert stats.mcnemar_p(0, 0) == 1
    assert stats.mcnemar_p(1, 9) == pytest.approx(22 / 1024)
    assert stats.mcnemar_p(9, 1) == stats.mcnemar_p(1, 9)


def test_the_noise_of_a_difference_on_the_same_rows():
    first, second = np.repeat([1.0, 1.0, 0.0, 0.0], [50, 30, 10, 10]), np.repeat([1.0, 0.0, 1.0, 0.0], [50, 30, 10, 10])
    expected = 1.959964 * np.std(first - second) / math.sqrt(100)
    assert stats.paired_half_width(30, 10, 100) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("count", [3, 5, 10])
def test_the_detectable_difference_is_found_four_times_in_five(count: int):
    rng, deviation = np.random.default_rng(count), 0.01
    shift = stats.detectable(deviation, count)
    gains = rng.normal(shift, deviation, (20_000, count))
    t = gains.mean(axis=1) / (gains.std(axis=1, ddof=1) / math.sqrt(count))
    found = np.abs(t) > scipy.stats.t.ppf(0.975, count - 1)
    assert found.mean() == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(
    ("count", "family", "rows"), [(3, 1, 10**9), (3, 23, 10**9), (5, 6, 10**9), (5, 6, 3_000), (12, 6, 10**9)]
)
def test_the_detectable_difference_is_separated_among_others_four_times_in_five(count: int, family: int, rows: int):
    """One row differs so much, the others do not; sign flips, of 12 pairs, find a little less."""
    rng, deviation, repeats = np.random.default_rng(count), 0.01, 300
    theirs = [0.4] * count
    others = {str(i): stats.difference(list(rng.normal(0.4, deviation, count)), theirs, rows) for i in range(1, family)}
    noise = stats.difference(theirs, theirs, rows).test_half_width
    shift = stats.detectable(deviation, count, family, noise)
    found = 0
    for _ in range(repeats):
        ours = stats.difference(list(rng.normal(0.4 + shift, deviation, count)), theirs, rows)
        found += stats.adjust(others | {"ours": ours})["ours"].separated
    assert found / repeats == pytest.approx(0.8, abs=0.06)


def test_what_is_detectable_depends_on_how_many_are_adjusted_together():
    rng = np.random.default_rng(2)
    alone = {str(i): stats.difference(list(rng.normal(0.4, 0.01, 3)), [0.4] * 3, 10**9) for i in range(23)}
    for name, found in stats.adjust(alone).items():
        assert found.detectable == stats.detectable(found.deviation or 0, 3, 23, found.test_half_width)
        assert (found.detectable or 0) > 3 * (alone[name].detectable or 0)


@pytest.mark.parametrize(("count", "family"), [(10, 26), (11, 52)])
def test_a_large_family_can_be_separated_where_sign_flips_cannot(count: int, family: int):
    """2 / 2^10 times 26 is above 5 %."""
    rng = np.random.default_rng(7)
    theirs = rng.normal(0.4, 0.01, count)
    ours = theirs + rng.normal(0.05, 0.001, count)
    one = stats.difference(list(ours), list(theirs), 10**9)
    assert one.method == stats.FLIPS
    fewer = stats.adjust({str(i): one for i in range(family - 1)})
    assert {d.method for d in fewer.values()} == {stats.FLIPS}
    assert fewer["0"].separated
    found = stats.adjust({str(i): one for i in range(family)})
    expected = scipy.stats.ttest_rel(ours, theirs)
    assert found["0"].method == "t, for so large a family"
    assert found["0"].p == pytest.approx(expected.pvalue)
    assert found["0"].interval == pytest.approx(tuple(expected.confidence_interval()))
    assert found["0"].separated


@pytest.mark.parametrize("count", [3, 5, 11])
def test_equal_mechanisms_are_told_apart_once_in_twenty_at_most(count: int):
    """The family-wise error of five variants against a baseline, all alike, with seeds in common."""
    rng, wrong = np.random.default_rng(count), 0
    for _ in range(400 if count < stats.MANY else 60):
        shared = rng.normal(0.4, 0.01, count)
        values = [list(shared + rng.normal(0, 0.01, count)) for _ in range(6)]
        found = stats.adjust({str(i): stats.difference(v, values[0], 10**9) for i, v in enumerate(values[1:])})
        wrong += any(d.separated for d in found.values())
    assert wrong / (400 if count < stats.MANY else 60) < 0.075
