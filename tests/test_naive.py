"""Every mechanism against its slow twin in float64, and the proof that the comparison sees deliberate errors.

`naive/<name>.py` holds a mechanism's twin and the specs and settings to compare. A new mechanism needs such a file.
"""

import functools
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from naive import load, names, twin
from torch import Tensor
from torch.testing import assert_close

import attention_zoo
from attention_zoo import Attention, Dims

TOLERANCE = 1e-10  # relative to the largest output, when that is above 1
VISIBLE = 1e-6  # a deliberate error must change the outputs by at least this, relative as above
TWINS = {name: load(name) for name in names()}


def specs(field: str) -> list[str]:
    """The specs that a field of `Twin` lists, over all twins."""
    return [spec for reference in TWINS.values() for spec in getattr(reference, field)]


@dataclass(frozen=True)
class Setting:
    """Sizes and inputs of a comparison: N tokens, where the longest sequence has `length`.

    keep: None, the real lengths of the rows, or 'scattered' for padding anywhere. inputs: a kind of inputs, see
    `shape_inputs`. layer: the number of the layer.
    """

    tokens: int = 13
    length: int = 17
    grid: tuple[int, int] | None = None
    keep: tuple[int, ...] | str | None = None
    inputs: str = "normal"
    layer: int = 0
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
FURTHER = {
    "shifted": Setting(tokens=11, length=14, keep=(11, 1, 6), layer=1),
    "3 x 4, padded, shifted": Setting(tokens=12, length=12, grid=(3, 4), keep=(12, 5), layer=3),
    "4 x 6, padded": Setting(tokens=24, length=24, grid=(4, 6), keep=(24, 10)),
    "6 x 9, second layer": Setting(tokens=54, length=54, grid=(6, 9), layer=1),
    "6 x 9, third layer": Setting(tokens=54, length=54, grid=(6, 9), layer=2),
}
SETTINGS = SEQUENCES | GRIDS | INPUTS | FURTHER


def prepare(spec: str, setting: Setting) -> tuple[Attention, str, dict[str, Any], Tensor, Tensor | None]:
    """A float64 module with random parameters, its name and options, x (B, N, D) and keep (B, N) or None.

    Tokens of padding are five times as large as real ones.
    """
    torch.manual_seed(5)
    entry, options = attention_zoo.find(spec)
    dims = Dims(dim=setting.dim, heads=setting.heads, length=setting.length, grid=setting.grid, layer=setting.layer)
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
    """Changes the projection of q and k in place, and returns x, so that inputs are of the setting's kind."""
    if setting.inputs == "normal":
        return x
    parameters, width = dict(module.named_parameters()), 2 * setting.dim
    weight, bias = parameters["qkv.weight"], parameters["qkv.bias"]
    if setting.inputs == "tiny":
        tiny = TWINS[name].tiny
        weight[:width] *= tiny
        bias[:width] *= tiny
        if "positions" in parameters:
            parameters["positions"].mul_(tiny)
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
    assert_close(y, expected, rtol=0, atol=tolerance)


def test_every_mechanism_has_a_twin():
    missing = [f"tests/naive/{name}.py" for name in attention_zoo.names() if name not in TWINS]
    missing += [f"attention_zoo/{name}.py" for name in TWINS if name not in attention_zoo.names()]
    assert not missing, f"an attention is two files; missing: {', '.join(missing)}"


def test_every_twin_is_complete():
    """A twin has either `mix` or `whole`, runs on sequences, has faults, and names only specs of its mechanism."""
    for name, reference in TWINS.items():
        assert (reference.mix is None) != (reference.whole is None), name
        assert reference.specs, name
        every = [
            *reference.specs,
            *reference.grids,
            *reference.inputs,
            *reference.parameters,
            *reference.impossible,
            *(spec for spec, _ in reference.faults),
        ]
        assert {spec.partition(":")[0] for spec in every} == {name}, name
        if name != "identity":  # it has nothing to be wrong about
            assert reference.faults, name


@pytest.mark.parametrize("shape", SEQUENCES)
@pytest.mark.parametrize("spec", specs("specs"))
def test_sequence(spec: str, shape: str):
    check(spec, SETTINGS[shape])


@pytest.mark.parametrize("shape", GRIDS)
@pytest.mark.parametrize("spec", specs("grids"))
def test_grid(spec: str, shape: str):
    check(spec, SETTINGS[shape])


@pytest.mark.parametrize(
    ("spec", "setting"),
    [
        (spec, setting)
        for reference in TWINS.values()
        for setting, further in reference.further.items()
        for spec in further
    ],
)
def test_further_setting(spec: str, setting: str):
    check(spec, SETTINGS[setting])


@pytest.mark.parametrize("kind", ["negative", "zeros", "large"])
@pytest.mark.parametrize("spec", specs("inputs"))
def test_inputs(spec: str, kind: str):
    check(spec, SETTINGS[kind])


TINY = [spec for reference in TWINS.values() if reference.tiny for spec in reference.inputs]


@pytest.mark.parametrize("spec", TINY)
def test_place_of_eps(spec: str):
    check(spec, SETTINGS["tiny"])


@pytest.mark.parametrize(
    ("spec", "setting"),
    [(spec, "padded") for spec in specs("specs")]
    + [(spec, "3 x 4, padded") for spec in specs("grids")]
    + [(spec, "tiny") for spec in TINY],
)
def test_gradients(spec: str, setting: str):
    module, name, options, x, keep = prepare(spec, SETTINGS[setting])
    assert keep is not None
    x.requires_grad_()
    parameters = dict(module.named_parameters())
    probe = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=x.dtype) * keep[..., None]
    actual, expected = (
        torch.autograd.grad((y * probe).sum(), (x, *parameters.values()), materialize_grads=True, allow_unused=True)
        for y in (module(x, keep), twin(name, options, module, x, keep))
    )
    for label, gradient, reference in zip(("x", *parameters), actual, expected, strict=True):
        tolerance = TOLERANCE * max(1.0, reference.abs().max().item())
        assert_close(gradient, reference, rtol=0, atol=tolerance, msg=lambda m, n=label: f"{n}: {m}")


@functools.cache
def check_once(spec: str, setting: str) -> None:
    check(spec, SETTINGS[setting])


@pytest.mark.parametrize(
    ("spec", "setting", "fault"),
    [(*case, fault) for reference in TWINS.values() for case, faults in reference.faults.items() for fault in faults],
)
def test_deliberate_errors_are_caught(spec: str, setting: str, fault: str):
    check_once(spec, setting)
    y, expected, tolerance = outputs(spec, SETTINGS[setting], fault)
    difference = (y - expected).abs().max().item()
    assert difference > tolerance / TOLERANCE * VISIBLE, f"'{fault}' moves the output by only {difference:.1e}"
