"""The further mechanisms against their slow twins in float64, deliberate errors, and the limits where each is exact."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from naive_zoo import MIXES, WHOLE, twin
from torch import Tensor, nn
from torch.testing import assert_close

import attention_zoo
from attention_zoo import Attention, Dims

TOLERANCE = 1e-10  # relative to the largest output, when that is above 1
VISIBLE = 1e-6  # a deliberate error must do at least this much


@dataclass(frozen=True)
class Setting:
    """Sizes and inputs: N tokens, at most `length`; keep is None, the real lengths, or 'scattered'."""

    tokens: int = 11
    length: int = 14
    grid: tuple[int, int] | None = None
    keep: tuple[int, ...] | str | None = (11, 1, 6)
    layer: int = 0
    dim: int = 8
    heads: int = 2


FULL = Setting(tokens=7, length=7, keep=None, dim=12, heads=3)
PADDED = Setting()
SCATTERED = Setting(keep="scattered")
SHIFTED = Setting(layer=1)
GRID = Setting(tokens=12, length=12, grid=(3, 4), keep=(12, 5))
SHIFTED_GRID = replace(GRID, layer=3)
SEQUENCES = {"full": FULL, "padded": PADDED, "scattered": SCATTERED}
GRIDS = {"grid": GRID}

SPECS = [
    "local:block=4",
    "local:conv=3",
    "swin:window=2",
    "swin:window=3,bias=false",
    "longformer",
    "longformer:window=4,tokens=2,conv=3",
    "longformer:window=6,tokens=0",
    "linformer:rank=5",
    "linformer:rank=3,share=false",
    "performer:features=20",
    "performer:features=9,kernel=relu,conv=3",
    "nystrom:landmarks=4,conv=5",
    "nystrom:conv=0,iterations=3",
    "cosformer",
    "taylor",
    "hedgehog:conv=3",
    "polapp",
    "polapp:conv=0,rotary=false",
    "local_conv",
    "pvt:reduction=3",
    "pvt:reduction=2,conv=3",
    "fnet",
    "fnet:orthonormal=false",
    "s4d:state=6",
]
GRID_SPECS = [
    "swin:window=2",
    "local:block=5",
    "pvt:reduction=2",
    "pvt:reduction=3,conv=3",
    "polapp:conv=3",
    "polapp:conv=0",
    "nystrom:landmarks=5,conv=3",
    "longformer:window=4",
    "local_conv:conv=3",
    "s4d:state=4",
    "fnet",
]


def prepare(spec: str, setting: Setting) -> tuple[Attention, str, dict[str, Any], Tensor, Tensor | None]:
    """A module in float64 with every parameter random, its name and options, x (B, N, D) and keep (B, N) or None."""
    torch.manual_seed(5)
    entry, options = attention_zoo.find(spec)
    dims = Dims(dim=setting.dim, heads=setting.heads, length=setting.length, grid=setting.grid, layer=setting.layer)
    module = entry.build(dims, options).double().eval()
    keep = None
    if setting.keep == "scattered":
        keep = torch.rand(3, setting.tokens) < torch.tensor([[0.7], [0.5], [0.3]])
        keep[torch.arange(3), torch.tensor([1, 4, 7])] = True
    elif setting.keep is not None:
        keep = torch.arange(setting.tokens) < torch.tensor([int(n) for n in setting.keep])[:, None]
    x = torch.randn(2 if keep is None else len(keep), setting.tokens, setting.dim, dtype=torch.float64)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.6 * torch.randn(parameter.shape, dtype=torch.float64))
    if keep is not None:
        x = torch.where(keep[..., None], x, 5 * torch.randn(x.shape, dtype=torch.float64))
    return module, entry.name, options, x, keep


def outputs(spec: str, setting: Setting, fault: str = "") -> tuple[Tensor, Tensor, float]:
    """The module's and the twin's outputs at real tokens, and the absolute tolerance."""
    module, name, options, x, keep = prepare(spec, setting)
    with torch.no_grad():
        y, expected = module(x, keep), twin(name, options, module, x, keep, fault)
    if keep is not None:
        y, expected = y[keep], expected[keep]
    return y, expected, TOLERANCE * max(1.0, expected.abs().max().item())


@pytest.mark.parametrize("setting", SEQUENCES.values(), ids=SEQUENCES)
@pytest.mark.parametrize("spec", SPECS)
def test_sequence(spec: str, setting: Setting):
    y, expected, tolerance = outputs(spec, setting)
    assert_close(y, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("spec", "setting"),
    [(spec, GRID) for spec in GRID_SPECS]
    + [("swin:window=2", setting) for setting in (SHIFTED, SHIFTED_GRID)]
    + [("swin:window=3", SHIFTED_GRID), ("swin", SHIFTED)],
)
def test_grid_and_shift(spec: str, setting: Setting):
    y, expected, tolerance = outputs(spec, setting)
    assert_close(y, expected, rtol=0, atol=tolerance)


def test_every_mechanism_has_a_twin():
    from naive import MIXES as FIRST

    assert {*MIXES, *WHOLE, *FIRST} == set(attention_zoo.names())


@pytest.mark.parametrize("spec", SPECS)
def test_gradients(spec: str):
    module, name, options, x, keep = prepare(spec, PADDED)
    assert keep is not None
    x.requires_grad_()
    parameters = dict(module.named_parameters())
    probe = torch.randn(x.shape, dtype=x.dtype) * keep[..., None]
    found, expected = (
        torch.autograd.grad((y * probe).sum(), (x, *parameters.values()), materialize_grads=True, allow_unused=True)
        for y in (module(x, keep), twin(name, options, module, x, keep))
    )
    for label, gradient, wanted in zip(("x", *parameters), found, expected, strict=True):
        tolerance = TOLERANCE * max(1.0, wanted.abs().max().item())
        assert_close(gradient, wanted, rtol=0, atol=tolerance, msg=lambda m, n=label: f"{n}: {m}")


FAULTS = [
    ("local:block=4", PADDED, "no mask"),
    ("local:block=4", PADDED, "longer blocks"),
    ("swin:window=2", PADDED, "no mask"),
    ("swin:window=2", PADDED, "distance reversed"),
    ("swin:window=2", SHIFTED, "never shifted"),
    ("swin:window=2", SHIFTED_GRID, "never shifted"),
    ("swin:window=2", GRID, "distance reversed"),
    ("longformer:window=4", PADDED, "no mask"),
    ("longformer:window=4", PADDED, "narrow window"),
    ("longformer:window=4", PADDED, "one projection"),
    ("longformer:window=4", PADDED, "global tokens unseen"),
    ("linformer:rank=5", PADDED, "no mask"),
    ("linformer:rank=5", PADDED, "no scale"),
    ("performer:features=20", PADDED, "no mask"),
    ("performer:features=20", PADDED, "mask v instead of k"),
    ("performer:features=20", PADDED, "scaled twice"),
    ("performer:features=20", PADDED, "no length"),
    ("nystrom:landmarks=4,conv=0", PADDED, "no mask"),
    ("nystrom:landmarks=4,conv=0", PADDED, "means over padding"),
    ("nystrom:landmarks=4,conv=0,iterations=2", PADDED, "other start"),
    ("cosformer", PADDED, "no mask"),
    ("cosformer", PADDED, "mask v instead of k"),
    ("cosformer", PADDED, "padded length"),
    ("cosformer", PADDED, "half a turn"),
    ("taylor", PADDED, "no mask"),
    ("taylor", PADDED, "no half"),
    ("hedgehog", PADDED, "no mask"),
    ("hedgehog", PADDED, "one map for both"),
    ("hedgehog", PADDED, "no negative half"),
    ("polapp", PADDED, "no mask"),
    ("polapp", PADDED, "mask v instead of k"),
    ("polapp", PADDED, "temperatures swapped"),
    ("polapp", PADDED, "normaliser turned too"),
    ("polapp", PADDED, "sigmoid gate"),
    ("polapp", PADDED, "gate on the mix only"),
    ("local_conv", PADDED, "convolution sees padding"),
    ("pvt:reduction=3", PADDED, "no mask"),
    ("pvt:reduction=3", PADDED, "empty patches stay"),
    ("pvt:reduction=3", PADDED, "no norm"),
    ("fnet", PADDED, "padded length"),
    ("s4d:state=6", PADDED, "causal"),
    ("s4d:state=6", PADDED, "Euler"),
    ("s4d:state=6", PADDED, "lag from one"),
]


@pytest.mark.parametrize(("spec", "setting", "fault"), FAULTS)
def test_deliberate_errors_are_caught(spec: str, setting: Setting, fault: str):
    y, expected, tolerance = outputs(spec, setting, fault)
    difference = (y - expected).abs().max().item()
    assert difference > tolerance / TOLERANCE * VISIBLE, f"'{fault}' moves the output by only {difference:.1e}"


def identity_projection(module: Attention) -> None:
    with torch.no_grad():
        nn.init.eye_(module.get_parameter("keys"))


LIMITS: dict[str, tuple[float, Callable[[Attention], None] | None]] = {  # spec -> tolerance, what to set first
    "local:block=16": (1e-12, None),
    "swin:window=4,bias=false": (1e-12, None),
    "longformer:window=32,tokens=0": (1e-12, None),
    "pvt:reduction=1": (1e-12, None),
    "linformer:rank=16": (1e-12, identity_projection),
    "nystrom:landmarks=16,conv=0,iterations=40": (1e-6, None),
}


@pytest.mark.parametrize("spec", LIMITS)
def test_limit_is_softmax(spec: str):
    """A window, a rank or landmarks as large as the sequence: softmax attention."""
    tolerance, change = LIMITS[spec]
    y, expected = beside_softmax(spec, 0.5, change)
    assert_close(y, expected, rtol=0, atol=tolerance)
    assert expected.std() > 0.1


def beside_softmax(spec: str, size: float, change: Callable[[Attention], None] | None = None) -> tuple[Tensor, Tensor]:
    """Outputs of a mechanism and of softmax attention with the same projections, drawn with this deviation."""
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
    """Without a bias: with directions whose signs a QR decomposition chose, the error stays at 0.011."""
    y, expected = beside_softmax("performer:features=20000", 0.1)
    assert (y - expected).norm() < 0.003 * expected.norm()


def test_taylor_is_exp_to_the_second_order():
    """Against softmax, on smaller and smaller q, the error falls with the cube."""
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
    """A token moves no output beyond its window, and some at its edge."""
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
    """Orthogonal rows within blocks of K, the same for a seed, kept among the weights and never trained."""
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


# Parameters beyond softmax's in one layer, as docstrings give them, at D = 64, H = 2, K = 32, length 128.
PARAMETERS = {
    "local": 0,
    "swin": 2 * (2 * 8**2 - 1),
    "longformer": 3 * 64**2 + 3 * 64,
    "longformer:tokens=0": 0,
    "linformer": 128 * 128,
    "linformer:rank=8,share=false": 2 * 8 * 128,
    "performer": 0,
    "nystrom": 2 * 35,
    "cosformer": 0,
    "taylor": 0,
    "hedgehog": 2 * 2 * 32**2,
    "polapp:conv=0": 4 * 64 + 64**2 + 64,
    "local_conv": 32 * (5 + 1),
    "pvt": 64**2 * 4 + 3 * 64,
    "fnet": -(4 * 64**2 + 4 * 64),
    "s4d": 64 * (3 * 64 + 2 * 64 + 4) - (4 * 64**2 + 4 * 64),
}


@pytest.mark.parametrize("spec", PARAMETERS)
def test_parameters_of_docstrings(spec: str):
    entry, options = attention_zoo.find(spec)
    module = entry.build(Dims(dim=64, heads=2, length=128), options)
    assert sum(p.numel() for p in module.parameters()) == 4 * 64**2 + 4 * 64 + PARAMETERS[spec]


@pytest.mark.parametrize(
    ("spec", "extra"), [("swin", 2 * (2 * 8 - 1) ** 2), ("pvt", 64**2 * 16 + 3 * 64), ("local_conv:conv=3", 32 * 10)]
)
def test_parameters_on_a_grid(spec: str, extra: int):
    entry, options = attention_zoo.find(spec)
    module = entry.build(Dims(dim=64, heads=2, length=128, grid=(8, 16)), options)
    assert sum(p.numel() for p in module.parameters()) == 4 * 64**2 + 4 * 64 + extra


@pytest.mark.parametrize(
    "spec",
    [
        "local:block=0",
        "swin:window=0",
        "longformer:window=3",
        "longformer:tokens=-1",
        "linformer:rank=0",
        "performer:features=0",
        "performer:kernel=cosine",
        "nystrom:landmarks=0",
        "nystrom:conv=4",
        "pvt:reduction=0",
        "s4d:state=5",
        "local_conv:conv=0",
    ],
)
def test_impossible_options_are_refused(spec: str):
    entry, options = attention_zoo.find(spec)
    with pytest.raises(attention_zoo.SpecError, match=spec.partition(":")[2].partition("=")[0]):
        entry.build(Dims(dim=8, heads=2, length=8), options)


def test_all_is_every_mechanism():
    from lra.experiments.plan import Request, plan

    cells = plan(Request(attentions=["all", "softmax"], tasks=["listops"], seeds=[0], protocol="quick"))
    assert [cell.row for cell in cells] == attention_zoo.names()
