"""GLA, DeltaNet and Mamba-2 over several chunks, and in cases that equal something simpler."""

import pytest
import torch
from naive import twin
from torch import Tensor
from torch.testing import assert_close

import attention_zoo
from attention_zoo import Dims
from attention_zoo._scan import CHUNK, carry
from attention_zoo.deltanet import delta_scan
from attention_zoo.gla import gated_scan
from attention_zoo.mamba2 import ssd

TOKENS = 2 * CHUNK + 7


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


@pytest.mark.parametrize("spec", ["gla:rank=2", "deltanet:short_conv=3", "mamba2:state=3"])
def test_several_chunks(spec: str):
    """With scattered padding, and with final padding longer than a chunk, at which the backward direction begins."""
    entry, options = attention_zoo.find(spec)
    torch.manual_seed(0)
    module, x = entry.build(Dims(dim=4, heads=1, length=TOKENS), options).double(), draw(2, TOKENS, 4)
    keep = torch.rand(2, TOKENS, generator=torch.Generator().manual_seed(1)) < 0.8
    keep[1, CHUNK - 5 :] = False
    with torch.no_grad():
        y, expected = module(x, keep), twin(entry.name, options, module, x, keep)
    assert_close(y[keep], expected[keep], rtol=0, atol=1e-10)


def test_gla_without_forgetting_is_linear_attention():
    """Each direction is linear attention without a normaliser."""
    q, k, v = draw(3, 1, TOKENS, 4)
    y = gated_scan(q, k, v, torch.zeros_like(q), 3)
    assert_close(y, (q @ k.transpose(-2, -1)).tril() @ v, rtol=0, atol=1e-10)


@pytest.mark.parametrize("decay", [1e-3, 1.0, 30.0, 1e4])
def test_gla_decays_of_any_size(decay: float):
    """exp(sum of log decays over a chunk) under- or overflows in float32, but the weight of a key does not."""
    q, k, v, gate = draw(4, 1, TOKENS, 4)
    log_decay = -decay * gate.abs()
    total = log_decay.cumsum(-2)
    weights = torch.einsum("bik,bjk,bijk->bij", q, k, (total.unsqueeze(-2) - total.unsqueeze(-3)).clamp(max=0).exp())
    expected = weights.tril() @ v
    y = gated_scan(q.float(), k.float(), v.float(), log_decay.float(), 3)
    assert_close(y.double(), expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def test_delta_rule_on_orthonormal_keys_is_linear_attention():
    """With beta = 1 there is nothing to erase; with beta = 0 nothing is written."""
    k = torch.linalg.qr(draw(TOKENS, TOKENS)).Q.unsqueeze(0)
    q, v, beta = draw(1, TOKENS, TOKENS), draw(1, TOKENS, 4), torch.ones(1, TOKENS, 1, dtype=torch.float64)
    expected = (q @ k.transpose(-2, -1)).tril() @ v
    assert_close(delta_scan(q, k, v, beta, 3), expected, rtol=0, atol=1e-10)
    assert not delta_scan(q, k, v, 0 * beta, 3).any()


def test_delta_rule_on_equal_keys_keeps_the_last_value():
    """A power series for the triangular system would lose all digits in float32 here."""
    k = torch.ones(1, TOKENS, 1) @ torch.tensor([[[0.6, 0.8]]])
    v, beta = draw(1, TOKENS, 3).float(), torch.ones(1, TOKENS, 1)
    assert_close(delta_scan(k, k, v, beta, 3), v, rtol=0, atol=1e-5)


def test_ssd_is_a_masked_matrix():
    """(L o C B^T) V with L_ij the product of the decays after j, dense."""
    c, b = draw(2, 1, 2, TOKENS, 3)
    v, log_decay = draw(1, 2, TOKENS, 8), -draw(1, 2, TOKENS, 2).abs()
    total = log_decay.cumsum(-2)
    decays = (total.unsqueeze(-2) - total.unsqueeze(-3)).clamp(max=0).exp()
    weights = ((c @ b.transpose(-2, -1)).unsqueeze(-1) * decays).permute(0, 1, 4, 2, 3).tril()
    expected = torch.einsum("bwhij,bwjhk->bwihk", weights, v.unflatten(-1, (2, 4))).flatten(-2)
    assert_close(ssd(c, b, v, log_decay, 3), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("decay", "matrices"), [((3, 2, 1), False), ((3, 1, 4), False), ((3, 2, 2), True)])
def test_gradients_of_carried_states(decay: tuple[int, ...], matrices: bool):
    inputs = draw(2, *decay).requires_grad_(), draw(2, 3, 2, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, u: carry(a, u, matrices=matrices), inputs)
