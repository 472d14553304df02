"""Every mechanism against its slow twin in float64, and the proof that the comparison sees deliberate errors."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from naive import twin
from torch import Tensor

import attention_zoo
from attention_zoo import Attention, Dims

TOLERANCE = 1e-10  # relative to the largest output, when that is above 1
VISIBLE = 1e-6  # a deliberate error must do at least this much

SEQUENCE_SPECS = [
    "softmax",
    "softmax:conv=3",
    "relu",
    "relu:conv=5",
    "elu",
    "elu:conv=1",
    "mean:conv=7",
    "identity",
    "flatten",
    "flatten:power=4,conv=0,key_positions=true",
    "agent:agents=5,bias=true",
    "agent",
    "agent:agents=9,conv=0",
    "agent:agents=49,conv=5,bias=true",
    "pola",
    "pola:alpha=5,conv=3,key_positions=true",
    "pola:alpha=7,conv=0",
    "pola:gate=off,flows=same",
    "pola:gate=sigmoid,power=fixed,flows=opposite,conv=0",
]
GRID_SPECS = [
    "softmax:conv=3",
    "relu:conv=1",
    "elu:conv=5",
    "mean:conv=3",
    "identity:conv=3",
    "flatten:key_positions=true",
    "agent:agents=4,bias=true",
    "agent:agents=9,conv=5,bias=true",
    "agent:agents=16,conv=0",
    "pola:key_positions=true",
]
LINEAR_SPECS = ["relu", "elu:conv=3", "flatten:conv=3", "flatten:key_positions=true", "pola:conv=3", "pola:alpha=5"]
TINY = {"relu": 1e-3, "elu": 1e-3, "flatten": 1e-3, "pola": 3e-2}  # q and k at which eps counts


@dataclass(frozen=True)
class Setting:
    """Sizes and inputs: N tokens; keep is None, the real lengths, or 'scattered'; `inputs` names a kind of draw."""

    tokens: int = 13
    length: int = 17
    grid: tuple[int, int] | None = None
    keep: tuple[int, ...] | str | None = None
    inputs: str = "normal"
    dim: int = 8
    heads: int = 2


SEQUENCES = {
    "full": Setting(length=13),
    "shorter than the longest": Setting(tokens=11, length=64, dim=12, heads=3),
    "one token": Setting(tokens=1, length=1, heads=1),
    "even": Setting(tokens=6, length=6, keep=(6, 2)),
    "padded": Setting(keep=(13, 1, 3, 8)),
    "scattered": Setting(tokens=12, keep="scattered"),
}
GRIDS = {
    "3 x 4": Setting(tokens=12, length=12, grid=(3, 4)),
    "3 x 4, padded": Setting(tokens=12, length=12, grid=(3, 4), keep=(12, 5)),
    "3 x 3, padded": Setting(tokens=9, length=9, grid=(3, 3), keep=(9, 1, 4), dim=12, heads=3),
    "2 x 5, scattered": Setting(tokens=10, length=10, grid=(2, 5), keep="scattered"),
}
INPUTS = {kind: Setting(tokens=7, keep=(7, 1, 5), inputs=kind) for kind in ("tiny", "negative", "zeros", "large")}
SETTINGS = SEQUENCES | GRIDS | INPUTS


def prepare(spec: str, setting: Setting) -> tuple[Attention, str, dict[str, Any], Tensor, Tensor | None]:
    """A module in float64 with every parameter random, its name and options, x (B, N, D) and keep (B, N) or None."""
    entry, options = attention_zoo.find(spec)
    dims = Dims(dim=setting.dim, heads=setting.heads, length=setting.length, grid=setting.grid)
    module = entry.build(dims, options).double().eval()
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    keep = draw_keep(setting, generator)
    x = draw(2 if keep is None else len(keep), setting.tokens, setting.dim)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(draw(*parameter.shape) * 0.6)
        x = shape_inputs(entry.name, setting, module, x)
    if keep is not None:
        x = torch.where(keep[..., None], x, 5 * draw(*x.shape))
    return module, entry.name, options, x, keep


def draw_keep(setting: Setting, generator: torch.Generator) -> Tensor | None:
    if setting.keep is None:
        return None
    if setting.keep == "scattered":
        keep = torch.rand((3, setting.tokens), generator=generator) < torch.tensor([[0.7], [0.5], [0.2]])
        keep[torch.arange(3), torch.tensor([1, 4, 7])] = True
        return keep
    return torch.arange(setting.tokens) < torch.tensor([int(n) for n in setting.keep])[:, None]


def shape_inputs(name: str, setting: Setting, module: Attention, x: Tensor) -> Tensor:
    """Bends x and the projection of q and k to the kind of input that the setting asks for."""
    parameters, width = dict(module.named_parameters()), 2 * setting.dim
    weight, bias = parameters["qkv.weight"], parameters["qkv.bias"]
    if setting.inputs == "tiny":
        weight[:width] *= TINY[name]
        bias[:width] *= TINY[name]
        if "positions" in parameters:
            parameters["positions"].mul_(TINY[name])
    elif setting.inputs == "negative":
        weight[:width] = weight[:width].abs()
        bias[:width] = -bias[:width].abs()
        x = -x.abs()
    elif setting.inputs == "zeros":
        bias.zero_()
        x[:, ::2] = 0.0
        weight[1] = weight[setting.dim + 2] = 0.0
    elif setting.inputs == "large":
        x = 3 * x
    return x


def outputs(spec: str, setting: Setting, fault: str = "") -> tuple[Tensor, Tensor, float]:
    """The module's and the twin's outputs at real tokens, and the absolute tolerance."""
    module, name, options, x, keep = prepare(spec, setting)
    with torch.no_grad():
        y, expected = module(x, keep), twin(name, options, module, x, keep, fault)
    if keep is not None:
        y, expected = y[keep], expected[keep]
    return y, expected, TOLERANCE * max(1.0, expected.abs().max().item())


def check(spec: str, setting: Setting) -> None:
    y, expected, tolerance = outputs(spec, setting)
    torch.testing.assert_close(y, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("shape", SEQUENCES)
@pytest.mark.parametrize("spec", SEQUENCE_SPECS)
def test_sequence(spec: str, shape: str):
    check(spec, SETTINGS[shape])


@pytest.mark.parametrize("shape", GRIDS)
@pytest.mark.parametrize("spec", GRID_SPECS)
def test_grid(spec: str, shape: str):
    check(spec, SETTINGS[shape])


@pytest.mark.parametrize("kind", ["negative", "zeros", "large"])
@pytest.mark.parametrize("spec", [*LINEAR_SPECS, "softmax", "agent:agents=5,bias=true"])
def test_inputs(spec: str, kind: str):
    check(spec, SETTINGS[kind])


@pytest.mark.parametrize("spec", LINEAR_SPECS)
def test_place_of_eps(spec: str):
    check(spec, SETTINGS["tiny"])


@pytest.mark.parametrize(
    ("spec", "setting"),
    [(spec, "padded") for spec in SEQUENCE_SPECS]
    + [(spec, "3 x 4, padded") for spec in GRID_SPECS]
    + [(spec, "tiny") for spec in LINEAR_SPECS],
)
def test_gradients(spec: str, setting: str):
    module, name, options, x, keep = prepare(spec, SETTINGS[setting])
    assert keep is not None
    x.requires_grad_()
    names, parameters = zip(*module.named_parameters(), strict=True)
    probe = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=x.dtype) * keep[..., None]
    found, expected = (
        torch.autograd.grad((y * probe).sum(), (x, *parameters), materialize_grads=True, allow_unused=True)
        for y in (module(x, keep), twin(name, options, module, x, keep))
    )
    for label, gradient, wanted in zip(("x", *names), found, expected, strict=True):
        tolerance = TOLERANCE * max(1.0, wanted.abs().max().item())
        torch.testing.assert_close(gradient, wanted, rtol=0, atol=tolerance, msg=lambda m, n=label: f"{n}: {m}")


FAULTS = {
    ("softmax:conv=3", "padded"): ["no mask", "no scale", "heads interleaved", "kernel reversed"],
    ("softmax:conv=5", "padded"): ["convolution sees padding"],
    ("softmax:conv=3", "3 x 4, padded"): ["convolution sees padding", "kernel reversed"],
    ("relu", "padded"): ["no mask", "mask v instead of k"],
    ("relu", "tiny"): ["eps of the other form"],
    ("elu", "padded"): ["mask before the map", "no mask", "mask v instead of k"],
    ("mean", "padded"): ["no mask"],
    ("flatten", "padded"): ["norm per head", "heads interleaved", "convolution sees padding"],
    ("flatten", "tiny"): ["eps of the other form", "eps of the padded length"],
    ("flatten", "negative"): ["inner eps too small"],
    ("flatten:key_positions=true", "padded"): ["no positions", "positions on q", "positions after the scale"],
    ("agent:agents=5", "padded"): ["pool over padding", "bins end early", "agents from k", "no scale", "no mask"],
    ("agent:agents=5", "scattered"): ["pool over padding", "convolution sees padding"],
    ("agent:agents=5,bias=true", "padded"): ["stretch to the padded length", "corners aligned", "tables swapped"],
    ("agent:agents=4,bias=true", "3 x 4, padded"): ["pool over padding", "empty agents stay", "corners aligned"],
    ("agent:agents=9,bias=true", "3 x 4, padded"): ["tables swapped", "bins end early"],
    ("pola", "padded"): [
        "mask v instead of k",
        "flows swapped",
        "halves of the width",
        "sigmoid gate",
        "gate on the mix only",
        "power before the scale",
        "power on q only",
        "convolution sees padding",
    ],
    ("pola", "tiny"): ["eps of the other form", "eps of the padded length"],
    ("pola:key_positions=true", "padded"): ["no positions", "positions on q", "positions after the scale"],
}


@pytest.mark.parametrize(
    ("spec", "setting", "fault"), [(*case, fault) for case, faults in FAULTS.items() for fault in faults]
)
def test_deliberate_errors_are_caught(spec: str, setting: str, fault: str):
    check(spec, SETTINGS[setting])
    y, expected, tolerance = outputs(spec, SETTINGS[setting], fault)
    difference = (y - expected).abs().max().item()
    assert difference > tolerance / TOLERANCE * VISIBLE, f"'{fault}' moves the output by only {difference:.1e}"
