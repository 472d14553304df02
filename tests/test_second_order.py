"""Second derivatives are right, or their mechanism is known to raise; hand-written gradients have derivatives."""

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import hessian, jvp
from torch.testing import assert_close

import attention_zoo
from attention_zoo import Attention, Dims
from attention_zoo._kernels import ELUPlusOne, Read, SignedPowers

KEEP = torch.arange(6) < torch.tensor([[6], [4]])
# torch's fused attention has no second derivative; lotformer's hand-written backward pass has none either.
FUSED = ("agent", "bigbird", "informer", "linformer", "local", "longformer", "luna", "nystrom", "pvt", "sinkhorn",
         "softmax")  # fmt: skip
RAISING = {
    **dict.fromkeys(FUSED, r"_scaled_dot_product\w+ is not implemented"),
    "lotformer": r"sinkhorn_backward\S* but no autograd formula",
}
OPTIONS = ("pola:alpha=0,conv=0", "pola:flows=opposite", "performer:kernel=relu", "flatten:power=5")


def built(spec: str) -> tuple[Attention, Tensor, Tensor]:
    """A small module in float64, its input, and a direction in which the input moves."""
    torch.manual_seed(0)
    entry, options = attention_zoo.find(spec)
    module = entry.build(Dims(dim=8, heads=2, length=6), options).double().eval()
    x = torch.randn(2, 6, 8, dtype=torch.float64)
    return module, x, torch.randn_like(x)


def gradients(module: Attention, x: Tensor) -> list[Tensor]:
    """Gradients of a sum over the outputs at real tokens, for x and every parameter, with a graph of their own."""
    y = module(x, KEEP)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    total = torch.where(KEEP[..., None], y * weights, 0).square().sum()
    inputs = [x, *module.parameters()]
    return list(torch.autograd.grad(total, inputs, create_graph=True, allow_unused=True, materialize_grads=True))


@pytest.mark.parametrize("spec", [*attention_zoo.names(), *OPTIONS])
def test_second_derivatives_are_right_or_known_to_raise(spec: str):
    """Derivatives of all gradients along a direction of x: a second backward pass against a difference of gradients."""
    module, x, direction = built(spec)
    x.requires_grad_()
    first = gradients(module, x)
    inputs = [x, *module.parameters()]

    def differentiate() -> tuple[Tensor, ...]:
        return torch.autograd.grad(first[0], inputs, direction, allow_unused=True, materialize_grads=True)

    if spec in RAISING:
        with pytest.raises(RuntimeError, match=RAISING[spec]):
            differentiate()
        return
    derivatives = differentiate()
    ends = [gradients(module, (x + step * direction).detach().requires_grad_()) for step in (1e-6, -1e-6)]
    expected = [(after - before).detach() / 2e-6 for after, before in zip(*ends, strict=True)]
    largest = max(float(each.abs().max()) for each in expected)
    assert largest > 1e-3
    for one, other in zip(derivatives, expected, strict=True):
        assert_close(one, other, rtol=0, atol=1e-6 * largest)


@pytest.mark.parametrize("name", ["relu", "elu", "pola"])
def test_hessian_and_jvp_of_torch(name: str):
    """Both functions compute second derivatives internally."""
    module, x, direction = built(name)
    step = 1e-6 * direction

    def total(x: Tensor) -> Tensor:
        return module(x).square().sum()

    def slope(x: Tensor) -> Tensor:
        return torch.autograd.grad(total(x), x)[0]

    _, moved = jvp(module, x, direction)
    with torch.no_grad():
        assert_close(moved, (module(x + step) - module(x - step)) / 2e-6, rtol=1e-6, atol=1e-6)
    curved = torch.einsum("abcdef,def->abc", hessian(total, x), direction)
    ends = [slope((x + sign * step).requires_grad_()) for sign in (1, -1)]
    assert_close(curved, (ends[0] - ends[1]) / 2e-6, rtol=1e-5, atol=1e-5)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("flows", [1, 2])
@pytest.mark.parametrize("rows", [1, 2], ids=["one eps", "an eps per row"])
def test_the_kernel_of_read_has_second_derivatives(flows: int, rows: int):
    torch.manual_seed(0)
    q, state, total = random(2, 1, 3, 2), random(2, 1, 2, 4), random(2, 1, flows, 2)
    eps = torch.full((rows, 1, 1, 1), 0.3, dtype=torch.float64)

    def read(q: Tensor, state: Tensor, total: Tensor) -> Tensor:
        result = Read.apply(q.exp(), state, total.exp(), eps)
        assert isinstance(result, Tensor)
        return result

    assert torch.autograd.gradcheck(read, (q, state, total))
    assert torch.autograd.gradgradcheck(read, (q, state, total))


def test_elu_plus_one():
    torch.manual_seed(0)
    assert torch.autograd.gradgradcheck(ELUPlusOne.apply, (random(2, 3, 4),))


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0, 4.0])
def test_signed_powers(power: float):
    torch.manual_seed(0)
    powers = torch.full((2, 1, 3), power, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(SignedPowers.apply, (random(1, 2, 2, 3), powers))
    assert torch.autograd.gradgradcheck(SignedPowers.apply, (random(1, 2, 2, 3), powers))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_signed_powers_at_zero(dtype: torch.dtype):
    """Zeroed padding has such values; the second derivative is 0 there, as the first."""
    t = torch.tensor([0.0, -0.0, 2.0], dtype=dtype).view(1, 1, 1, 3).requires_grad_()
    powers = torch.full((1, 1, 3), 1.5, dtype=dtype, requires_grad=True)
    y = SignedPowers.apply(t, powers)
    assert isinstance(y, Tensor)
    (slope,) = torch.autograd.grad(y.sum(), t, create_graph=True)
    to_t, to_powers = torch.autograd.grad(slope.sum(), (t, powers))
    assert_close(to_t.flatten(), torch.tensor([0.0, 0.0, 1.5 * 0.5 * 2**-0.5], dtype=dtype))
    assert to_powers.isfinite().all()
