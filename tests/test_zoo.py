"""Limits in which mechanisms are exact, their parameters, refused options, and inputs that must not overflow."""

from collections.abc import Callable

import pytest
import torch
from naive import load, names
from torch import Tensor
from torch.testing import assert_close

import attention_zoo
from attention_zoo import Attention, Dims
from lra.testing import build_attention

TWINS = {name: load(name) for name in names()}
LIMITS = [reference.limit[0] for reference in TWINS.values() if reference.limit]


@pytest.mark.parametrize("spec", LIMITS)
def test_limit_is_softmax(spec: str):
    """With a window, a rank or landmarks as large as the sequence, a mechanism is softmax attention."""
    reference = TWINS[spec.partition(":")[0]]
    assert reference.limit is not None
    y, expected = beside_softmax(spec, 0.5, reference.prepare_limit)
    assert_close(y, expected, rtol=0, atol=reference.limit[1])
    assert expected.std() > 0.1


def beside_softmax(spec: str, size: float, change: Callable[[Attention], None] | None = None) -> tuple[Tensor, Tensor]:
    """Outputs of a mechanism and of softmax attention with equal projections, drawn with standard deviation `size`."""
    x = torch.randn(2, 16, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = []
    for name in (spec, "softmax"):
        torch.manual_seed(1)
        entry, options = attention_zoo.find(name)
        module = entry.build(Dims(dim=8, heads=2, length=16), options).double().eval()
        torch.manual_seed(2)
        with torch.no_grad():
            for part in (module.get_submodule("qkv"), module.get_submodule("out")):
                for parameter in part.parameters():
                    parameter.copy_(size * torch.randn(parameter.shape, dtype=torch.float64))
            if change is not None and name == spec:
                change(module)
            y.append(module(x))
    return y[0], y[1]


def test_many_random_features_are_softmax():
    """Directions have random signs: with the signs of a QR decomposition, the error would stay at 0.011."""
    y, expected = beside_softmax("performer:features=20000", 0.1)
    assert (y - expected).norm() < 0.003 * expected.norm()


def test_taylor_is_exp_to_the_second_order():
    """The error against softmax attention falls with the cube of the size of q."""
    x = torch.randn(1, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    errors = []
    for size in (0.1, 0.05):
        y = []
        for name in ("taylor", "softmax"):
            torch.manual_seed(1)
            module = attention_zoo.find(name)[0].build(Dims(dim=8, heads=2, length=9)).double()
            with torch.no_grad():
                module.get_parameter("qkv.weight")[:8] *= size
                module.get_parameter("qkv.bias")[:8] *= size
                y.append(module(x))
        errors.append((y[0] - y[1]).abs().max().item())
    assert 6 < errors[0] / errors[1] < 10


@pytest.mark.parametrize(
    ("spec", "layer", "reach"),
    [("longformer:window=4,tokens=0", 0, 2), ("local:block=4", 0, 3), ("swin:window=2", 0, 3)],
)
def test_windows_are_windows(spec: str, layer: int, reach: int):
    """A changed token changes outputs up to the edge of its window, and none beyond."""
    entry, options = attention_zoo.find(spec)
    torch.manual_seed(0)
    module = entry.build(Dims(dim=8, heads=2, length=16, layer=layer), options).double()
    x = torch.randn(1, 16, 8, dtype=torch.float64)
    other = x.clone()
    other[0, 8] += 1
    moved = ((module(other) - module(x)).abs() > 1e-12).any(-1)[0].nonzero().flatten().tolist()
    assert moved
    assert max(abs(i - 8) for i in moved) == reach


def test_performer_draws_from_the_seed():
    """Rows are orthogonal within blocks of K, depend on the seed, and are a saved buffer, not a parameter."""
    rows = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        module = attention_zoo.find("performer:features=20")[0].build(Dims(dim=16, heads=2, length=8), {"features": 20})
        rows.append(module.state_dict()["directions"])
        assert "directions" not in dict(module.named_parameters())
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])
    unit = rows[0] / rows[0].norm(dim=1, keepdim=True)
    for block in unit.split(8):
        assert_close(block @ block.T, torch.eye(len(block)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "extra"), [(spec, extra) for reference in TWINS.values() for spec, extra in reference.parameters.items()]
)
def test_parameters_of_docstrings(spec: str, extra: int):
    """Parameters beyond softmax's in one layer are those of the docstrings, at D = 64, H = 2, K = 32, length 128."""
    entry, options = attention_zoo.find(spec)
    module = entry.build(Dims(dim=64, heads=2, length=128), options)
    assert sum(p.numel() for p in module.parameters()) == 4 * 64**2 + 4 * 64 + extra


@pytest.mark.parametrize(
    ("spec", "extra"),
    [(spec, extra) for reference in TWINS.values() for spec, extra in reference.grid_parameters.items()],
)
def test_parameters_on_a_grid(spec: str, extra: int):
    entry, options = attention_zoo.find(spec)
    module = entry.build(Dims(dim=64, heads=2, length=128, grid=(8, 16)), options)
    assert sum(p.numel() for p in module.parameters()) == 4 * 64**2 + 4 * 64 + extra


@pytest.mark.parametrize("spec", [spec for reference in TWINS.values() for spec in reference.impossible])
def test_impossible_options_are_refused(spec: str):
    entry, options = attention_zoo.find(spec)
    with pytest.raises(attention_zoo.SpecError, match=spec.partition(":")[2].partition("=")[0]):
        entry.build(Dims(dim=8, heads=2, length=8), options)


@pytest.mark.parametrize("name", attention_zoo.names())
def test_rotary_positions_are_never_ignored(name: str):
    """A mechanism rotates q and k, or it is refused; the controls do not compare them."""
    x, y, refusal = torch.randn(1, 12, 16), [], ""
    entry, options = attention_zoo.find(name)
    for rope in (False, True):
        torch.manual_seed(0)
        try:
            y.append(entry.build(Dims(dim=16, heads=2, length=12, rope=rope), options).eval()(x))
        except attention_zoo.SpecError as error:
            refusal = str(error)
    if refusal:
        assert (len(y), "cannot take rotary positions" in refusal) == (1, True)
    else:
        assert torch.equal(*y) == entry.control


def test_all_is_every_mechanism():
    from lra.experiments.plan import Request, plan

    cells = plan(Request(attentions=["all", "softmax"], tasks=["listops"], seeds=[0], protocol="quick"))
    assert [cell.row for cell in cells] == attention_zoo.names()


def built(spec: str, grid: tuple[int, int] | None) -> Attention:
    torch.manual_seed(0)
    entry, options = attention_zoo.find(spec)
    return entry.build(Dims(dim=32, heads=2, length=48, grid=grid), options)


KEEP = torch.arange(48) < torch.tensor([[48], [20], [1]])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("grid", [None, (6, 8)], ids=["sequence", "grid"])
@pytest.mark.parametrize("name", attention_zoo.names())
def test_weights_in_half_precision(name: str, grid: tuple[int, int] | None, dtype: torch.dtype):
    """`model.to(torch.bfloat16)`: the output has that type, and is close to that of the same weights in float32."""
    module, x = built(name, grid).to(dtype), torch.randn(3, 48, 32).to(dtype)
    y = module(x, KEEP)
    expected = module.float()(x.float(), KEEP)[KEEP]
    assert y.dtype == dtype
    assert (y[KEEP].float() - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("grid", [None, (6, 8)], ids=["sequence", "grid"])
@pytest.mark.parametrize("name", attention_zoo.names())
def test_large_inputs_overflow_nowhere(name: str, grid: tuple[int, int] | None, request: pytest.FixtureRequest):
    """Inputs of size 1,000 give finite outputs and gradients in float32, or the twin says why not."""
    if reason := TWINS[name].overflows:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    assert_finite(built(name, grid), 1_000)


SIZES = 2 ** torch.linspace(0, 8, 40)  # of the inputs, one for each row
LONG = torch.arange(192) < torch.tensor([192, 130, 101, 3]).repeat(10).unsqueeze(-1)  # blocks are partly padding


@pytest.mark.parametrize("name", attention_zoo.names())
def test_gradients_are_finite_at_every_size(name: str, request: pytest.FixtureRequest):
    """At some size a softmax weight is 1e-40; the gradient of a division by it is infinite, and times 0 NaN."""
    if reason := TWINS[name].overflows:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    check_gradients(build_attention(name, dim=32, heads=4, length=192), SIZES)


def test_gradients_are_finite_where_padding_has_almost_all_the_weight():
    """The learned table gives the three real tokens of a row almost no weight."""
    module = build_attention("synthesizer:rank=4", dim=32, length=192)
    with torch.no_grad():
        for name in ("left", "right"):
            module.get_parameter(name).mul_(2**8)
    check_gradients(module, torch.ones(40))


def check_gradients(module: Attention, sizes: Tensor) -> None:
    x = torch.randn(40, 192, 32, generator=torch.Generator().manual_seed(1)) * sizes[:, None, None]
    x.requires_grad_()
    y = module(x, LONG)
    torch.where(LONG.unsqueeze(-1), y * torch.randn_like(y), 0).sum().backward()
    tensors = {"x": x, **dict(module.named_parameters())}
    wrong = [name for name, t in tensors.items() if t.grad is not None and not t.grad.isfinite().all()]
    assert not wrong, f"not finite: {', '.join(wrong)}"


@pytest.mark.parametrize("spec", ["polapp", "polapp:rotary=false"])
def test_exponents_of_ninety_do_not_overflow(spec: str):
    """exp(90) overflows in float32, so that the largest exponent is subtracted in numerator and normaliser first."""
    assert_finite(built(spec, None), 30)


@pytest.mark.parametrize("power", [4, 8])
def test_a_token_without_a_positive_channel_spoils_no_row(power: int):
    """Its features could underflow in float32, so that their norm is 0 and, at padding, NaN would reach every token."""
    module = built(f"flatten:power={power}", None)
    with torch.no_grad():
        module.get_parameter("qkv.bias").fill_(-0.3)
    x = torch.randn(3, 48, 32)
    x[:, ::5] = 0
    y = module(x, KEEP)
    y.square().mean().backward()
    assert y.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())
    expected = module.double()(x.double(), KEEP)
    assert_close(y[KEEP], expected[KEEP].float(), rtol=1e-4, atol=1e-5)


def assert_finite(module: Attention, size: float) -> None:
    x = (size * torch.randn(3, 48, 32)).requires_grad_()
    y = module(x, KEEP)
    y.square().mean().sqrt().backward()
    assert y.isfinite().all()
    assert x.grad is not None
    for name, gradient in [("x", x.grad), *((n, p.grad) for n, p in module.named_parameters())]:
        assert gradient is None or gradient.isfinite().all(), name
