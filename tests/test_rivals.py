"""PolaFormer's rivals in simple cases: means, linear attention, doubly stochastic maps."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import attention_zoo
from attention_zoo import Attention, Dims
from attention_zoo._sinkhorn import sinkhorn, sinkhorn_backward

D = 8
CHECKS = ("test_schema", "test_faketensor")
x = torch.randn(2, 12, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def build(spec: str, grid: tuple[int, int] | None = None) -> Attention:
    """The mechanism in float64 with the identity as `out`, so that the output is the mix."""
    torch.manual_seed(1)
    entry, options = attention_zoo.find(spec)
    module = entry.build(Dims(dim=D, heads=2, length=12, grid=grid), options).double().eval()
    with torch.no_grad():
        module.get_parameter("out.weight").copy_(torch.eye(D))
        module.get_parameter("out.bias").zero_()
    return module


def values(module: Attention) -> Tensor:
    return (x @ module.get_parameter("qkv.weight").T + module.get_parameter("qkv.bias"))[..., 2 * D :]


def without(module: Attention, rows: slice) -> Attention:
    """Sets these rows of the projection to zero: q, or q and k."""
    with torch.no_grad():
        module.get_parameter("qkv.weight")[rows] = 0
        module.get_parameter("qkv.bias")[rows] = 0
    return module


@pytest.mark.parametrize(
    ("spec", "rows", "factor"),
    [
        ("flowformer", slice(2 * D), torch.tensor(1.0).sigmoid().item()),  # every sink is allowed sigmoid(1)
        ("inline:conv=0", slice(D), 1.0),
    ],
)
def test_blind_queries_get_the_mean(spec: str, rows: slice, factor: float):
    module = without(build(spec), rows)
    expected = factor * values(module).mean(1, keepdim=True).expand_as(x)
    assert_close(module(x), expected, rtol=0, atol=1e-5 if spec == "flowformer" else 1e-12)  # 1e-6 in each product


@pytest.mark.parametrize("spec", ["inline:conv=0", "lotformer:pivots=4,eps=1"])
def test_rows_sum_to_one(spec: str):
    """If all values are equal, the output is that value."""
    module = build(spec)
    with torch.no_grad():
        module.get_parameter("qkv.weight")[2 * D :] = 0
    expected = module.get_parameter("qkv.bias")[2 * D :].expand_as(x)
    assert_close(module(x), expected, rtol=0, atol=1e-6)


def test_lotformer_is_doubly_stochastic():
    """So the mean of the outputs is that of the values; with a large eps, every token gets the mean."""
    module = build("lotformer:pivots=4,eps=1")
    assert_close(module(x).mean(1), values(module).mean(1), rtol=0, atol=1e-6)
    module = build("lotformer:pivots=4,eps=1e9")
    assert_close(module(x), values(module).mean(1, keepdim=True).expand_as(x), rtol=0, atol=1e-6)


def linear(x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Linear attention of two heads on elu + 1, with 1e-6 beside the mean over keys."""
    q, k, v = (t.unflatten(-1, (2, -1)).transpose(1, 2) for t in (q, k, v))
    weights = (torch.nn.functional.elu(q) + 1) @ (torch.nn.functional.elu(k) + 1).transpose(-2, -1)
    y = weights @ v / (weights.sum(-1, keepdim=True) + 1e-6 * x.shape[1])
    return y.transpose(1, 2).flatten(-2)


def rala(module: Attention) -> tuple[Tensor, ...]:
    """Makes all keys equal, so that they weigh the same, and the gate 1 -> q, k, v."""
    without(module, slice(D, 2 * D))
    with torch.no_grad():
        module.get_parameter("gate.weight").zero_()
        module.get_parameter("gate.bias").fill_(1)
    return (x @ module.get_parameter("qkv.weight").T + module.get_parameter("qkv.bias")).chunk(3, dim=-1)


def mlla(module: Attention) -> tuple[Tensor, ...]:
    q, k = (x @ module.get_parameter("qk.weight").T + module.get_parameter("qk.bias")).chunk(2, dim=-1)
    return q, k, x


@pytest.mark.parametrize(
    ("spec", "project"),
    [("rala:rotary=false,conv=0", rala), ("mlla:rotary=false,conv=0,front=0,gate=false", mlla)],
)
def test_without_rotation_they_are_linear_attention(spec: str, project: Callable[[Attention], tuple[Tensor, ...]]):
    module = build(spec)
    q, k, v = project(module)
    assert_close(module(x), linear(x, q, k, v), rtol=0, atol=1e-12)


@pytest.mark.parametrize("tokens_first", [True, False])
def test_sinkhorn_is_what_the_compiler_is_told(tokens_first: bool):
    """Shapes and strides of the results are as declared, for inputs of any strides."""
    scores, gradient = (torch.randn(2, 2, 5, 3).transpose(-2, -1) for _ in range(2))
    masses, real = torch.full((2, 3, 1), -1.1), torch.ones(2, 1, 1, 5, dtype=torch.bool)
    for updates in (4, 5):
        rest = (updates, tokens_first)
        _, *potentials = sinkhorn(scores, masses, real, *rest)
        torch.library.opcheck(sinkhorn, (scores, masses, real, *rest), test_utils=CHECKS)
        torch.library.opcheck(
            sinkhorn_backward, (gradient, scores, masses, real, *potentials, *rest), test_utils=CHECKS
        )


@pytest.mark.parametrize(("spec", "heads"), [("rala", 4), ("mlla", 8)])
def test_heads_that_cannot_be_turned_are_refused(spec: str, heads: int):
    """Rows and columns need a plane of two channels each."""
    entry, options = attention_zoo.find(spec)
    with pytest.raises(attention_zoo.SpecError, match="rotary=true"):
        entry.build(Dims(dim=D, heads=heads, length=12, grid=(3, 4)), options)
