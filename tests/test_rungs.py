"""Networks of the ladders: each learns what it can see, stays at chance where there is nothing, and is repeatable."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tasks
from lra.commands.data import climb
from lra.experiments import rung_networks as rungs

SHORT = {kind: tasks.Network(kind=kind, width=8, steps=60, batch=32) for kind in ("patches", "convolutions")}
SPEC = tasks.Spec(vocab=256, classes=2, length=1024, grid=(32, 32), padded=False)


def stripes(known: bool, rows: int = 400) -> tasks.Data:
    """Noise with faint stripes, across for label 1, down for label 0; known=False: random labels."""
    random = np.random.default_rng(0)

    def split(rows):
        labels = random.integers(0, 2, rows)
        wave = 40 * (np.arange(32) % 4 < 2)
        images = random.integers(0, 200, (rows, 32, 32)) + np.where(
            labels[:, None, None] == 1, wave[:, None], wave[None]
        )
        told = labels if known else random.integers(0, 2, rows)
        return tasks.Split(images.reshape(rows, -1).astype(np.uint8), np.full(rows, 1024, np.int32), told)

    about = {"task": "stripes", "label": "user's", "source": "test", "rows": {}}
    return tasks.Data(SPEC, split(rows), split(200), split(500), "0" * 12, about, Path("none"))


@pytest.mark.parametrize("kind", SHORT)
def test_learns_what_it_can_see_and_no_more(kind):
    assert rungs.accuracy(SHORT[kind], stripes(known=True)) > 0.9
    assert abs(rungs.accuracy(SHORT[kind], stripes(known=False)) - 0.5) < 0.1


@pytest.mark.parametrize("kind", SHORT)
def test_repeats_itself_and_leaves_the_generator_alone(kind):
    data, short = stripes(known=True, rows=100), replace(SHORT[kind], steps=10)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = rungs.accuracy(short, data)
    torch.testing.assert_close(torch.get_rng_state(), before)
    assert rungs.accuracy(short, data) == first


@pytest.mark.parametrize("side", [32, 64, 128, 256])
@pytest.mark.parametrize("kind", SHORT)
def test_every_size_of_images(kind, side):
    model = rungs.make(SHORT[kind], side, classes=3).eval()
    assert model(torch.zeros(2, 1, side, side)).shape == (2, 3)
    assert sum(parameter.numel() for parameter in model.parameters()) < 100_000


def test_patches_do_not_know_where_they_are():
    """Images with the same patches in other places give the same answer."""
    model = rungs.make(SHORT["patches"], 32, classes=2).eval()
    torch.nn.init.normal_(model.get_submodule("features.0").weight)  # pyright: ignore[reportArgumentType]
    blank = torch.zeros(1, 1, 32, 32)
    near, far = blank.clone(), blank.clone()
    near[..., 4:6, 4:6], far[..., 20:22, 12:14] = 1.0, 1.0
    torch.testing.assert_close(model(near), model(far))
    assert (model(near) != model(blank)).any()


def test_the_network_is_chosen_on_validation(monkeypatch):
    """Of five evaluations, the second and the fourth are best on validation, and the third on the test split."""
    data, look = stripes(known=True, rows=32), 0
    scores = {200: [0.5, 0.9, 0.6, 0.9, 0.7], 500: [0.1, 0.2, 0.95, 0.3, 0.4]}  # rows of a split -> accuracies

    def fit(*_):
        nonlocal look
        for step in range(5):
            look = step
            yield step

    monkeypatch.setattr(rungs, "fit", fit)
    monkeypatch.setattr(rungs, "share_right", lambda _, split: scores[len(split[1])][look])
    assert rungs.accuracy(SHORT["patches"], data) == 0.2


def test_long_splits_are_read_in_part(monkeypatch):
    monkeypatch.setattr(rungs, "PIXELS", 10 * 1024)
    images, labels = rungs.read(stripes(known=True).train, (32, 32))
    assert (images.shape, labels.shape) == ((10, 1, 32, 32), (10,))


def test_a_ladder_with_networks_is_stored(cache, monkeypatch, tmp_path):
    task = tasks.find("pathfinder")
    settings = task.settings(train_rows=40, validation_rows=10, test_rows=20)
    data = task.prepare(settings, None, cache, False)
    monkeypatch.setattr(task, "networks", {"tiny CNN": replace(SHORT["convolutions"], steps=2)})
    text = climb("pathfinder", data, tmp_path)
    assert "tiny CNN" in text
    assert list(task.ladder(data)) == ["constant", "grey histogram", "marker distance", "lit path", "tiny CNN"]
    assert (tmp_path / f"pathfinder-{data.hash}.json").read_text().count(str(tmp_path)) == 0
