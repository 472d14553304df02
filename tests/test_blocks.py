"""What the sparse mechanisms draw, what a lazy query of Informer receives, and how Sinkhorn attention sorts blocks."""

import pytest
import torch
from torch.testing import assert_close

from attention_zoo.sinkhorn import sinkhorn
from lra.testing import build_attention


@pytest.mark.parametrize(("spec", "name"), [("bigbird:block=4", "preference"), ("informer:factor=1", "sample")])
def test_draws_come_from_the_seed(spec: str, name: str):
    """A seed draws the same blocks or samples, another seed draws others; they are kept with the weights."""
    same, again, other = (build_attention(spec, seed=seed).state_dict()[name] for seed in (0, 0, 1))
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


def test_lazy_queries_take_the_mean():
    """Informer gives full attention to factor * ceil(ln 64) queries of a head, and the mean of v to all others."""
    module = build_attention("informer:factor=2", length=64).double()
    q, k, v = torch.randn(3, 1, 2, 64, 8, dtype=torch.float64).unbind()
    y = module.attend(q, k, v)  # pyright: ignore[reportCallIssue]
    lazy = (y - v.mean(2, keepdim=True)).abs().amax(-1) < 1e-12
    assert (~lazy).sum(-1).tolist() == [[10, 10]]


def test_sorting_is_doubly_stochastic():
    """After many iterations, rows and columns of real blocks sum to 1; others are 0."""
    logits = torch.randn(2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    real = torch.tensor([[True] * 6, [True, False, True, True, False, False]])
    sorting = sinkhorn(logits, real, 200).exp()
    for axis in (1, 2):
        assert_close(sorting.sum(axis), real.double(), rtol=0, atol=1e-9)
