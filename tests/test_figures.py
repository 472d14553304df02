"""The report's figures: lines, markers and bands against numbers computed here by hand."""

import statistics
from typing import Any

import numpy as np
import pytest
import records
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lra.report.figures import curves, forest, scaling, style
from lra.report.groups import Group, grouped

# Gains on softmax by seed: clear, unclear, and of a single seed, which tells nothing
GAINS = {"relu": (0.05, 0.052, 0.048), "elu": (0.04, -0.03, 0.02), "pola": (0.1,)}
SOFTMAX = (0.40, 0.42, 0.41)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """Name -> figure for each figure drawn from now on; none is written to disk."""
    drawn: dict[str, Figure] = {}

    def save(figure: Figure, name: str, kinds: object = ()) -> dict[str, bytes]:  # noqa: ARG001
        drawn[name] = figure
        return {}

    monkeypatch.setattr(style, "save", save)
    return drawn


def lines_of(axes: Axes, row: str) -> list[Line2D]:
    return [line for line in axes.lines if line.get_gid() == f"row {row}"]


def xy(line: Line2D) -> tuple[list[float], list[float]]:
    return tuple(np.asarray(data, float).tolist() for data in line.get_data())


def band(axes: Axes, row: str) -> dict[float, tuple[float, float]]:
    """Position on the x axis -> the lowest and the highest point of the row's band."""
    (found,) = [c for c in axes.collections if isinstance(c, PolyCollection) and c.get_gid() == f"row {row}"]
    ends: dict[float, list[float]] = {}
    for x, y in np.asarray(found.get_paths()[0].vertices):
        ends.setdefault(float(x), []).append(float(y))
    return {x: (min(ys), max(ys)) for x, ys in ends.items()}


@pytest.fixture
def compared() -> Group:
    accuracies = {"softmax": SOFTMAX} | {
        row: [theirs + gain for theirs, gain in zip(SOFTMAX, gains, strict=False)] for row, gains in GAINS.items()
    }
    (group,) = grouped([records.make(row, a, seed=s) for row, found in accuracies.items() for s, a in enumerate(found)])
    return group


def test_a_forest_is_filled_where_it_is_separated(figures: dict[str, Figure], compared: Group):
    palette = style.palette([compared])
    forest.draw(compared, "softmax", palette)
    (axes,) = figures[f"{compared.slug}-differences"].axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert sorted(names) == sorted(GAINS)
    for row, gains in GAINS.items():
        *intervals, dot = lines_of(axes, row)
        assert xy(dot) == (pytest.approx([100 * statistics.fmean(gains)]), [names.index(row)])
        assert same_color(dot.get_markeredgecolor(), palette.colour(row))
        assert same_color(dot.get_markerfacecolor(), palette.colour(row) if row == "relu" else "#ffffff")
        assert len(intervals) == (len(gains) == 3)
        for interval in intervals:
            (low, high), at = xy(interval)
            assert at == [names.index(row)] * 2
            assert (low + high) / 2 == pytest.approx(100 * statistics.fmean(gains))
            assert (low > 0) == (row == "relu")
    assert axes.get_xlabel() == "ListOps"


def curve(*points: float) -> list[dict[str, float]]:
    return [{"step": 100 * (i + 1), "validation_accuracy": value} for i, value in enumerate(points)]


def test_a_curve_is_the_mean_of_the_seeds_and_its_band_their_range(figures: dict[str, Figure]):
    """The mean is over steps that all seeds reached; each diverged run is a separate line that ends in a cross."""
    seeds = [(0.2, 0.3, 0.4), (0.25, 0.5, 0.6), (0.21, 0.31, 0.35, 0.9)]
    made = [records.make("pola", 0.4, seed=s, curve=curve(*points)) for s, points in enumerate(seeds)]
    made += [records.make("pola", seed=7, status="diverged", curve=curve(0.2, 0.1))]
    (group,) = grouped(made)
    curves.draw(group, style.palette([group]))
    (axes,) = figures[f"{group.slug}-listops-curves"].axes
    mean, lost, cross = lines_of(axes, "pola")
    steps = [100.0, 200.0, 300.0]
    assert xy(mean) == (steps, pytest.approx([22.0, 37.0, 45.0]))
    ends = {100: (20, 25), 200: (30, 50), 300: (35, 60)}
    assert band(axes, "pola") == {step: pytest.approx(lowest_highest) for step, lowest_highest in ends.items()}
    assert xy(lost) == ([100.0, 200.0], pytest.approx([20, 10]))
    assert (xy(cross), cross.get_marker()) == (([200.0], pytest.approx([10])), "x")
    low, high = axes.get_ylim()
    assert low < 10
    assert high > 60


@pytest.fixture
def measured() -> scaling.Scaling:
    """Five repeats of a step at two lengths, whose quartiles are the second and the fourth."""

    def bench(length: int, *milliseconds: float) -> Any:
        seconds = [value / 1000 for value in milliseconds]
        return records.bench("relu", length, seconds=seconds, held_bytes=10**6, peak_bytes=10**6 + 10_000 * length)

    (found,) = scaling.collect([bench(256, 14, 10, 11, 17, 12), bench(512, 21, 30, 20, 24, 28)])
    return found


def test_scaling_shows_the_median_the_quartiles_and_the_growth(figures: dict[str, Figure], measured: scaling.Scaling):
    scaling.draw(measured, style.palette_of({"relu": "linear"}))
    (axes,) = figures[f"{measured.slug}-time"].axes
    (line,) = lines_of(axes, "relu")
    assert xy(line) == ([256.0, 512.0], pytest.approx([12, 24]))
    assert band(axes, "relu") == {256: pytest.approx((11, 14)), 512: pytest.approx((21, 28))}
    assert line.get_label() == "relu, N^1.0"
    assert axes.get_ylabel() == "milliseconds per step"


def test_what_has_no_length_or_is_cold_is_in_no_figure_of_lengths():
    """A task that could not be measured has no length, and `bench --hours` measures a cold and a warm first step."""
    whole = {"shape": "listops", "run_steps": 100.0, "seconds": [0.2]}
    failed = {"status": "failed", "reason": "lost", "seconds": []}
    benches = [
        records.bench("relu", 2000, **whole | {"cold": True}),
        records.bench("relu", 2000, **whole),
        records.bench("elu", 0, **whole | failed),
    ]
    assert scaling.collect(benches) == []
    (found,) = scaling.collect([*benches, records.bench("relu", 1000, **whole | {"run_steps": 0.0, "seconds": [0.1]})])
    assert found.growth("relu") == pytest.approx(1)
    scaling.draw(found, style.palette_of({"relu": "linear", "elu": "linear"}))


def test_scaling_shows_the_memory_of_a_step_alone(figures: dict[str, Figure], measured: scaling.Scaling):
    scaling.draw(measured, style.palette_of({"relu": "linear"}))
    (axes,) = figures[f"{measured.slug}-memory"].axes
    (line,) = lines_of(axes, "relu")
    assert xy(line) == ([256.0, 512.0], pytest.approx([2.56, 5.12]))
    assert axes.get_ylabel() == "MB"
