"""`lra.prepare`: the model, data and batches that a run starts with."""

from typing import Any

import pytest
import torch
from asking import run_grid
from torch.testing import assert_close

import attention_zoo
import lra
from lra.errors import ConfigError, RecordError
from lra.experiments.plan import Request


def test_the_model_is_the_one_a_run_starts_with(tiny, tmp_path):
    """Compared with a run at a learning rate of 0, whose weights do not change."""
    overrides = ("train.lr=0", "train.steps=2", "train.warmup=0")
    run_grid(
        Request(
            attentions=["pola:alpha=2"], tasks=["listops"], seeds=[3], protocol=tiny, overrides=overrides, out=tmp_path
        )
    )
    (path,) = tmp_path.glob("*.json")
    run, start = lra.load(path), lra.prepare("pola:alpha=2", "listops", protocol=tiny, overrides=overrides, seed=3)
    assert start.config == run.config
    assert start.data.hash == run.record.data["hash"]
    weights = start.model().state_dict()
    assert weights.keys() >= run.weights.keys()
    for name, weight in run.weights.items():
        assert_close(weights[name], weight, rtol=0, atol=0)
    assert_close(start.batch(range(5), "test"), run.batch(range(5)), rtol=0, atol=0)


def test_a_loop_of_ones_own_learns(tiny):
    start = lra.prepare("elu", "listops", protocol=tiny)
    torch.manual_seed(0)
    model, (ids, keep, labels) = start.model(), start.batch(range(8))
    assert model.training
    assert (labels.numpy() == start.data.train.labels[:8]).all()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(ids, keep), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_mistakes(tiny, tmp_path):
    with pytest.raises(attention_zoo.SpecError, match="did you mean 'pola'"):
        lra.prepare("pla", "listops", protocol=tiny)
    with pytest.raises(ConfigError, match="one attention on one task"):
        lra.prepare("family:control", "listops", protocol=tiny)
    with pytest.raises(ConfigError, match=r"overrides must be a list, such as \['train.steps=3'\], not a string"):
        lra.prepare("elu", "listops", protocol=tiny, overrides="train.steps=3")
    with pytest.raises(RecordError, match=r"is a folder: name one record in it; lra.records reads all"):
        lra.load(tmp_path)
    start = lra.prepare("elu", "listops", protocol=tiny)
    wrong: list[list[Any]] = [[300], [-1], [0.5], []]
    for rows in wrong:
        with pytest.raises(ConfigError, match="the rows of train are whole numbers from 0 to 299"):
            start.batch(rows)
    with pytest.raises(ConfigError, match="unknown split 'tests', did you mean 'test'"):
        lra.prepare("elu", "listops", protocol=tiny).batch([0], "tests")


def test_one_attention_has_the_options_of_its_spec():
    dims = attention_zoo.Dims(dim=8, heads=2, length=12)
    attention = attention_zoo.build("pola:alpha=2", dims)
    assert attention(torch.randn(2, 10, 8)).shape == (2, 10, 8)
    assert attention.alpha == 2
    with pytest.raises(attention_zoo.SpecError, match="no option 'alfa', did you mean 'alpha'"):
        attention_zoo.build("pola:alfa=2", dims)
