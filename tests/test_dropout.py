"""Dropout: where it is applied in training, and that masks differ between steps, micro-batches and seeds."""

from typing import Any

import numpy as np
import pytest
import torch
from asking import asked
from torch import Tensor, nn
from torch.testing import assert_close

import attention_zoo
import tasks
from lra.backbones import names
from lra.backbones.layers import Block, Dropout
from lra.experiments.build import make_model
from lra.experiments.plan import plan
from lra.testing import build_attention
from lra.training.device import Device, Padding
from lra.training.step import Step

SPEC = tasks.Spec(vocab=16, classes=10, length=60)
WIDTH, P = 64, 0.3
IDS = torch.arange(8 * 60).reshape(8, 60) * 7919 % 15 + 1
ROWS = np.arange(8)
SAME = tasks.Split(np.tile(np.arange(40, dtype=np.uint8) % 15, (8, 1)), np.full(8, 40, np.int32), np.zeros(8, np.int64))
# mechanisms with weights to drop
WEIGHTED = {
    "agent", "bigbird", "informer", "kernelized", "linformer", "local", "longformer", "luna", "pvt", "reformer",
    "sinkhorn", "softmax", "sparse", "swin", "synthesizer",
}  # fmt: skip


def run_of(*overrides: str, attention: str = "elu"):
    return plan(asked(attentions=[attention], overrides=overrides))[0]


def share_of_zeros(x: Tensor) -> float:
    return float((x == 0).float().mean())


class Constant(nn.Module):
    """An attention that returns a constant."""

    def __init__(self, value: float):
        super().__init__()
        self.value = value

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:  # noqa: ARG002
        return torch.full_like(x, self.value)


def block_of(attention: float, **arrangement: Any) -> tuple[Block, nn.Linear, nn.Linear]:
    """A block without norms and the layers of its MLP; the attention returns a constant, the MLP 0."""
    block = Block(Constant(attention), dim=WIDTH, mlp=WIDTH, dropout=P, **arrangement)
    block.attention_norm, block.mlp_norm = nn.Identity(), nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    first, last = (layer for layer in block.mlp if isinstance(layer, nn.Linear))
    for layer, bias in ((first, 1.0), (last, 0.0)):
        nn.init.zeros_(layer.weight)
        nn.init.constant_(layer.bias, bias)
    return block, first, last


@pytest.mark.parametrize("arrangement", [{}, {"norm": "post"}, {"parallel": True}], ids=["pre", "post", "parallel"])
@torch.no_grad()
def test_the_places_in_a_block(arrangement):
    """A share P of the attention's output, the MLP's hidden values and its output is dropped, the rest scaled."""
    torch.manual_seed(0)
    x = torch.zeros(8, 60, WIDTH)
    block, _, _ = block_of(1.0, **arrangement)
    y = block(x, None)
    assert y.unique().tolist() == pytest.approx([0, 1 / (1 - P)], rel=1e-4)
    assert share_of_zeros(y) == pytest.approx(P, abs=0.02), "the attention's output"
    assert_close(block.eval()(x, None), torch.ones_like(x))

    block, _, last = block_of(0.0, **arrangement)
    nn.init.ones_(last.bias)
    y = block(x, None)
    assert y.unique().tolist() == pytest.approx([0, 1 / (1 - P)], rel=1e-4)
    assert share_of_zeros(y) == pytest.approx(P, abs=0.02), "the MLP's output"

    nn.init.zeros_(last.bias)
    nn.init.eye_(last.weight)
    assert share_of_zeros(block(x, None)) == pytest.approx(1 - (1 - P) ** 2, abs=0.02), "hidden values and output"
    assert share_of_zeros(block.eval()(x, None)) == 0


@pytest.mark.parametrize("backbone", names())
@torch.no_grad()
def test_the_embedding_and_the_blocks_of_every_backbone(backbone):
    torch.manual_seed(0)
    model = make_model(run_of(f"model.backbone={backbone}", f"model.dropout={P}", attention="softmax"), SPEC)
    assert {module.p for module in model.modules() if isinstance(module, Dropout)} == {P}
    body, inputs = model.body, []
    model.body = lambda x, keep: (inputs.append(x), body(x, keep))[1]
    model.train()(IDS)
    model.eval()(IDS)
    assert [share_of_zeros(x) for x in inputs] == pytest.approx([P, 0], abs=0.02)


@pytest.mark.parametrize("backbone", names())
@torch.no_grad()
def test_attention_dropout_reaches_every_layer(backbone):
    """`model.attention_dropout` without `model.dropout` makes two training passes differ."""
    overrides = (f"model.backbone={backbone}", "model.dropout=0.0", "model.attention_dropout=0.4")
    model = make_model(run_of(*overrides, attention="softmax"), SPEC)
    assert {attention.dims.dropout for attention in model.attentions()} == {0.4}  # pyright: ignore[reportAttributeAccessIssue]
    assert not torch.equal(model.train()(IDS), model(IDS))
    assert torch.equal(model.eval()(IDS), model(IDS))


@pytest.mark.parametrize("name", attention_zoo.names())
@torch.no_grad()
def test_attention_dropout_is_applied_where_there_are_weights(name):
    """Two passes differ in training only; mechanisms without attention weights draw nothing."""
    x = torch.randn(2, 24, 16, generator=torch.Generator().manual_seed(0))
    attention = build_attention(name, dropout=0.5)
    assert torch.equal(attention.train()(x), attention(x)) != (name in WEIGHTED)
    assert torch.equal(attention.eval()(x), attention(x))


def step_of(dropout: float, seed: int = 0) -> Step:
    """A step with a learning rate of 0, which keeps the weights; these do not depend on the seed."""
    run = run_of(f"model.dropout={dropout}", "train.lr=0", "train.clip=none")
    return Step(make_model(run, SPEC), run.config.train, Device(torch.device("cpu")), Padding(), seed)


def gradient(step: Step, number: int) -> Tensor:
    step(SAME, ROWS, number)
    return step.optimiser.flat.clone()


def test_a_mask_is_a_function_of_the_seed_and_the_step():
    step = step_of(P)
    first = gradient(step, 3)
    assert torch.equal(gradient(step_of(P), 3), first), "whatever was drawn before"
    others = [gradient(step, 4), gradient(step, 0), gradient(step_of(P, seed=1), 3)]
    assert not any(torch.equal(first, other) for other in others)
    assert torch.equal(gradient(step, 3), first)
    assert torch.equal(gradient(step_of(0.0), 3), gradient(step_of(0.0, seed=1), 4)), "nothing else is drawn"


def test_training_after_an_evaluation_drops_as_before_it():
    step = step_of(P)
    first = gradient(step, 3)
    losses = [step.evaluate(SAME, ROWS, seed)[1] for seed in (0, 1)]
    assert losses[0] == losses[1], "an evaluation drops nothing"
    assert torch.equal(gradient(step, 3), first)


@pytest.mark.parametrize("dropout", [0.0, P])
def test_every_row_of_every_micro_batch_has_its_mask(monkeypatch, dropout):
    """Three steps of four micro-batches of two rows, all of one sample: without dropout all logits are equal."""
    monkeypatch.setattr("lra.training.batches.MICRO_BATCH_TOKENS", {"cpu": 1})
    step, logits = step_of(dropout), []
    gradient(step, 0)  # dry run included
    step.model.register_forward_hook(lambda module, ids, y: logits.append(y.detach()))  # noqa: ARG005
    for number in range(3):
        gradient(step, number)
    assert [len(part) for part in logits] == [2] * 12
    rows = torch.cat(logits)
    if dropout:
        assert len(rows.unique(dim=0)) == 24
    else:
        assert_close(rows, rows[:1].expand_as(rows))
