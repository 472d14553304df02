"""Cases in which a mechanism equals another, in float64: Gaussian kernels, one bucket, a memory of one row."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from attention_zoo import QKVAttention, softmax_attention
from attention_zoo.reformer import factors
from lra.testing import build_attention

TOKENS = 12


def built(spec: str, length: int = TOKENS) -> tuple[Any, Tensor, Tensor]:
    """A module of D = 16, H = 2, K = 8 in float64, x (3, 12, 16), and keep for 12, 7 and 1 real tokens."""
    module = build_attention(spec, length=length).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    x = torch.randn(3, TOKENS, 16, generator=generator, dtype=torch.float64)
    return module, x, torch.arange(TOKENS) < torch.tensor([[12], [7], [1]])


def drawn() -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v (2, 2, 12, 8)."""
    generator = torch.Generator().manual_seed(2)
    q, k, v = torch.randn(3, 2, 2, TOKENS, 8, generator=generator, dtype=torch.float64)
    return q, k, v


def same(y: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    assert_close(y, expected, rtol=0, atol=tolerance)
    assert expected.std() > 0.01


def test_gaussian_of_keys_of_one_length_is_softmax_without_its_normaliser():
    q, k, v = drawn()
    k = k / k.norm(dim=-1, keepdim=True)
    lost = (q.square().sum(-1, keepdim=True) + 1) / (2 * 8**0.5)
    normaliser = (q @ k.transpose(-2, -1) / 8**0.5 - lost).exp().sum(-1, keepdim=True)
    module = build_attention("kernelized")
    assert isinstance(module, QKVAttention)
    same(module.attend(q, k, v), normaliser * softmax_attention(q, k, v))


def test_skyformer_with_all_tokens_as_landmarks_is_kernelized():
    """In the row of 7 tokens, each is a landmark once or twice, so that the inverse converges more slowly."""
    module, x, keep = built(f"skyformer:landmarks={2 * TOKENS},regulariser=0,iterations=30")
    full, _, _ = built("kernelized")
    module.get_buffer("tickets").copy_((torch.arange(TOKENS) + 0.5) / TOKENS * 2**31)
    same(module(x), full(x), 1e-8)
    same(module(x, keep)[keep], full(x, keep)[keep], 1e-6)


@pytest.mark.parametrize("hashes", [1, 3])
def test_one_bucket_is_softmax_of_shared_q_and_k_without_itself(hashes: int):
    module, x, keep = built(f"reformer:bucket={TOKENS},hashes={hashes}")
    q, _, v = module.project(x)
    logits = q @ (q / (q.square().sum(-1, keepdim=True) + 8e-6).sqrt()).transpose(-2, -1)
    logits = logits.masked_fill(~keep[:, None, None], -torch.inf)
    logits = logits.masked_fill(torch.eye(TOKENS, dtype=torch.bool), -1e5)
    y, expected = (t.transpose(1, 2)[keep] for t in (module.attend(q, q, v, keep), logits.softmax(-1) @ v))
    same(y, expected)
    assert_close(y[-1], v[2, :, 0], rtol=0, atol=1e-12)  # a single token attends to itself


def test_buckets_of_two_factors():
    """Above 128 buckets, the columns of W grow with the root of their number, and every bucket can be reached."""
    assert [factors(count) for count in (2, 62, 128, 130, 2048)] == [[2], [62], [128], [16, 8], [64, 32]]
    module, x, keep = built("reformer:bucket=1", length=1024)
    assert module.rotations.shape[-1] == (64 + 32) / 2
    q, _, _ = module.project(x)
    first, second = (q[0, 1] @ module.rotations[1, 0]).split([32, 16], dim=-1)
    large, small = (torch.cat((t, -t), dim=-1).argmax(-1) for t in (first, second))
    numbers = module.buckets(q, keep)
    assert torch.equal(numbers[0, 1, 0], large + 64 * small)
    assert (numbers[1, :, :, 7:] == 64 * 32).all()


@pytest.mark.parametrize("spec", ["synthesizer", "synthesizer:rank=2", "synthesizer:kind=dense"])
def test_synthesizer_without_scores_is_the_mean(spec: str):
    module, x, keep = built(spec)
    with torch.no_grad():
        for name in ("right", "scores.weight", "scores.bias"):
            if name in dict(module.named_parameters()):
                module.get_parameter(name).zero_()
    y, mean = module(x, keep), module(x[1:2, :7].mean(1, keepdim=True))  # one token, whose result is its own v
    same(y[1:2, :7], mean.expand(-1, 7, -1))


def test_memory_of_one_place_gives_all_tokens_the_same():
    module, x, keep = built("luna:memory=1")
    y = module(x, keep)
    same(y[1, :7], y[1, :1].expand(7, -1))
