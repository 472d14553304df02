"""Comparisons of rows: paired by common seeds; the rows that may be the best are bold."""

from typing import Any

import numpy as np
import pytest
from records import make

from lra.report.cells import Cell, TaskColumn, same_answers, split_variance
from lra.report.groups import grouped
from lra.results.record import pack
from lra.stats.accuracy import binomial_variance
from lra.stats.differences import Family


def column_of(values: dict[str, list[float]], rows: int = 10**8) -> TaskColumn:
    runs = [make(row, a, seed=s, test_rows=rows) for row, found in values.items() for s, a in enumerate(found)]
    return grouped(runs)[0].columns[0]


def test_only_common_seeds_are_paired():
    runs = [make("softmax", 0.40, seed=0), make("softmax", 0.44, seed=1), make("softmax", 0.48, seed=2)]
    runs += [make("pola", 0.50, seed=1), make("pola", 0.51, seed=2), make("pola", 0.9, seed=7)]
    runs += [make("elu", 0.3, seed=9), make("relu", status="diverged")]
    (group,) = grouped(runs)
    found = group.columns[0].against("softmax")
    assert set(found) == {"pola"}
    assert (found["pola"].count, found["pola"].mean) == (2, pytest.approx(0.045))
    assert group.columns[0].against("agent") == {}


def test_bold_is_the_best_and_what_is_not_separated_from_it():
    far, near = [0.30, 0.301, 0.299], [0.50, 0.505, 0.501]
    column = column_of({"pola": [0.501, 0.502, 0.5], "softmax": near, "elu": far, "relu": [0.1]})
    assert column.not_separated == {"softmax", "pola"}
    found = column.against("softmax")
    assert found["elu"].separated
    assert (found["relu"].count, found["relu"].p) == (1, None)


def test_nothing_is_bold_where_nothing_is_separated():
    assert column_of({"pola": [0.9, 0.91], "elu": [0.1, 0.11]}).not_separated == set()
    assert column_of({"pola": [0.9, 0.91, 0.92]}).not_separated == set()
    assert column_of({"pola": [0.9, 0.91, 0.92], "elu": [0.91, 0.93, 0.9], "relu": [0.1]}).not_separated == set()


def test_the_noise_of_the_test_rows_keeps_rows_together():
    values = {"pola": [0.510, 0.511, 0.512], "elu": [0.500, 0.501, 0.502]}
    assert column_of(values, rows=10**8).not_separated == {"pola"}
    assert column_of(values, rows=1000).not_separated == set()


def cell_of(right: np.ndarray, **changes: Any) -> Cell:
    """right (seeds, rows): whether each run of a cell got each test row right."""
    packed = [pack(np.packbits(found).tobytes()) for found in right]
    made = enumerate(zip(right, packed, strict=True))
    rows = right.shape[1]
    return Cell(tuple(make("pola", a.mean(), seed=s, test_rows=rows, correct=text, **changes) for s, (a, text) in made))


def test_the_noise_of_the_test_rows_comes_from_the_rows_where_models_differ():
    """Models that get the same rows right have no such noise; otherwise it is what more seeds do not reduce."""
    rng = np.random.default_rng(0)
    hard = rng.random((2, 4000)) * 0.8 + 0.1  # how often a model of either mechanism gets each row right
    drawn = [rng.random((40, 4000)) < chance for chance in hard]
    first, second = (cell_of(found) for found in drawn)
    truth = float(np.var(hard[0] - hard[1])) / 4000
    assert split_variance(first, second, range(40)) == pytest.approx(truth, rel=0.1)
    assert split_variance(first, second, range(3)) == pytest.approx(truth, rel=0.2)
    same = cell_of(rng.random((3, 4000)) < hard[0]), cell_of(rng.random((3, 4000)) < hard[0])
    assert split_variance(*same, range(3)) < truth / 5
    apart = cell_of(drawn[1], data={"hash": "of other data"})
    assert split_variance(first, apart, range(3)) == pytest.approx(2 * 0.25 / 4000, rel=0.05)


def test_one_test_row_says_nothing_about_a_difference():
    right, wrong = (cell_of(np.full((2, 1), answer)) for answer in (True, False))
    assert split_variance(right, wrong, [0, 1]) == np.inf


def test_the_last_rows_left_out_move_a_mean_by_little():
    """As under `train.drop_last`: the same predictions, counted on random 3,968 of 4,000 rows."""
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random((1, 4000)) < 0.4, 3, axis=0)
    whole, cut = cell_of(right), cell_of(right[:, :3968])
    gaps = [(found := rng.random(4000) < 0.4)[:3968].mean() - found.mean() for _ in range(2000)]
    assert split_variance(cut, whole, range(3)) == pytest.approx(float(np.var(gaps)), rel=0.15)
    assert same_answers(cut, whole)
    assert same_answers(whole, cut)
    other = right.copy()
    other[1, 7] ^= True
    assert not same_answers(cell_of(other), cut)
    assert not same_answers(cell_of(right[:2]), cut)


def drawn(seed: int) -> tuple[set[str], set[str]]:
    """The bold rows of a column of six rows and one at chance, and the rows that `Family` says may be the best."""
    rng, rows = np.random.default_rng(seed), 10_000
    shared = rng.normal(0.5, 0.01, 4)
    values = {f"row{i}": list(shared - gap + rng.normal(0, 0.004, 4)) for i, gap in enumerate(rng.uniform(0, 0.03, 6))}
    values["chance"] = list(0.46 + rng.normal(0, 1e-4, 4))
    records = [
        make(row, a, seed=s, test_rows=rows, learned=row != "chance", ladder={})
        for row, accuracies in values.items()
        for s, a in enumerate(accuracies)
    ]
    variance = {row: binomial_variance(float(np.mean(accuracies)), rows) for row, accuracies in values.items()}
    runs = {row: dict(enumerate(accuracies)) for row, accuracies in values.items()}
    family = Family(runs, lambda row, other, _: variance[row] + variance[other], ["chance"])
    return grouped(records)[0].columns[0].not_separated, family.may_be_best


def test_bold_rows_are_those_that_may_be_the_best():
    """`Family` is given the noise of the test rows, and the row at chance; tests/test_stats.py measures its errors."""
    columns = [drawn(seed) for seed in range(20)]
    assert [bold for bold, _ in columns] == [best for _, best in columns]
    sizes = {len(bold) for bold, _ in columns}
    assert 0 in sizes
    assert len(sizes) > 3
