"""The yardstick computes what ours computes; a ratio between different models would mean nothing."""

import argparse
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

import tasks
from lra.bench import baseline
from lra.bench import yardstick as steps
from lra.experiments.build import make_model
from lra.experiments.plan import Request, plan

LENGTH, LENGTHS = 60, [60, 49, 23, 3]


@pytest.mark.parametrize("name", baseline.MAKERS)
def test_the_baseline_is_the_same_model(name, tiny):
    """Logits and gradients of both with the same weights, in float64, without dropout."""
    cell = plan(Request(attentions=[name], tasks=["listops"], seeds=[0], protocol=tiny))[0]
    model = replace(cell.config.model, dropout=0.0)
    cell = replace(cell, config=replace(cell.config, model=model))
    ours = make_model(cell, tasks.Spec(vocab=16, classes=10, length=LENGTH)).double()
    plain = baseline.Encoder(name, model, 16, 10, LENGTH).double()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
    plain.load_state_dict(ours.state_dict())
    keep = torch.arange(LENGTH) < torch.tensor(LENGTHS)[:, None]
    ids = torch.where(keep, torch.randint(1, 16, keep.shape, generator=torch.Generator().manual_seed(4)), 0)
    mine, theirs = ours(ids, keep), plain(ids, keep.double())
    assert_close(mine, theirs.to(mine.dtype), rtol=1e-6, atol=1e-7)
    for logits in (mine, theirs):
        F.cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()
    theirs_by_name = dict(plain.named_parameters())
    for key, parameter in ours.named_parameters():
        assert_close(parameter.grad, theirs_by_name[key].grad, rtol=1e-5, atol=1e-7)


def test_the_table():
    """Medians, ratios of medians; what has no figure is no ratio."""

    def one(attention, name, *seconds, failed=""):
        return steps.Contender(attention, name, lambda _: None, None, list(seconds), failed)

    found = [
        one("pola", "eager", 0.3, 0.1, 0.2),
        one("pola", "compiled", 0.1),
        one("pola", "baseline", 1.0),
        one("softmax", "eager", 0.4),
        one("softmax", "compiled", failed="failed: no compiler"),
        one("softmax", "baseline", failed="no memory"),
        one("identity", "eager", 0.05),
        one("identity", "compiled", 0.08),
        one("identity", "baseline", 0.5),
    ]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in steps.table(found).splitlines()]
    dash = "\u2013"
    assert lines[2:] == [
        ["pola", "200.0", "100.0", "1,000.0", "10.00", "2.00", dash],
        ["softmax", "400.0", "failed: no compiler", "no memory", dash, "8.00", dash],
        ["identity", "50.0", "80.0", "500.0", "10.00", "1.00", dash],
    ]


def test_a_small_run():
    asked = argparse.Namespace(
        attn=["elu"], gear=["eager"], rounds=1, rows=2, device="cpu", data_dir="", no_baseline=False
    )
    text = steps.measure("image", asked, torch.device("cpu"))
    assert text.startswith("image: 2 x 1,024, 0% of it padding")
    assert "| elu" in text
    assert "failed" not in text


def test_drawn_reviews_are_as_padded_as_real_ones():
    lengths = steps.drawn_text(20_000).lengths
    assert 0.66 < 1 - lengths.mean() / steps.SHAPES["text"] < 0.70
