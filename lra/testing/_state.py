"""The contract's quick checks of an attention's state, and of what it does to the process around it.

They have the form of the checks in `_contract`.
"""

import contextlib
import copy
from collections.abc import Iterable

import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.testing import assert_close

import attention_zoo
from attention_zoo import process
from lra.testing._setup import Grid, build_attention, dims_of, make, padding, sample


def parameters(spec: str, grid: Grid = None) -> None:
    """The constructor makes all parameters: a lazy one, or one that the first forward pass makes, is never trained."""
    attention, x = build_attention(spec, grid=grid), sample(grid).float()
    before = dict(attention.named_parameters())
    lazy = [name for name, parameter in before.items() if is_lazy(parameter)]
    assert not lazy, f"{lazy[0]} has no size before the first forward pass"
    with contextlib.suppress(Exception):  # a forward pass that fails is for `runs` to report
        attention.train()(x, padding(x))
    for name, parameter in attention.named_parameters():
        assert before.get(name) is parameter, f"{name} is made by the forward pass"


def deterministic(spec: str, grid: Grid = None) -> None:
    """Evaluation gives the same bits, whatever the state of the random generator."""
    attention, x = make(spec, grid, dropout=0.5), sample(grid)
    first = attention(x)
    torch.manual_seed(1234)
    assert_close(attention(x), first, rtol=0.0, atol=0.0)


def seeded(spec: str, grid: Grid = None) -> None:
    """The seed of torch decides everything: draw from torch, not from numpy, `random`, the clock or the system."""

    def results(others: int) -> dict[str, Tensor]:
        with process.seeded(0, others):
            attention, x = build_attention(spec, grid=grid, dropout=0.5), sample(grid).float()
            tensors = copied(attention.state_dict().items())
            for training in (False, True):
                torch.manual_seed(1)
                y = attention.train(training)(x, padding(x))
                tensors[f"the output in {'training' if training else 'evaluation'}"] = y[padding(x)]
            return tensors

    first = results(1)
    for others, why in ((1, "from call to call"), (2, "with the random numbers of numpy or Python")):
        for name, tensor in results(others).items():
            assert same(first[name], tensor), f"{name} changes {why}, though torch has the same seed"


def settings(spec: str, grid: Grid = None) -> None:
    """It leaves dtype, device, seed, threads and other settings of the process alone: they hold for every other run."""
    entry, options = attention_zoo.find(spec)
    assert not entry.notes, entry.notes[0]
    before, x = process.look(), sample(grid).float()
    try:
        attention = entry.load()(dims_of(grid), **options)
        with process.seeded(5, 5) as used:
            for training in (False, True):
                attention.train(training)(x, padding(x))
        changed = [*process.changed(before), *(name for name in used if name == "torch's seed")]
    finally:
        process.restore(before)
    assert not changed, f"it changes settings of the process: {', '.join(changed)}"


def state(spec: str, grid: Grid = None) -> None:
    """A call changes neither x nor a parameter; buffers change in training only, and nothing else holds state.

    Update statistics in training alone, and register them as buffers.
    """
    attention, x = make(spec, grid), sample(grid)
    held = copied(attention.named_parameters()) | copied(attention.named_buffers())
    for keep in (None, padding(x)):
        attention(x, keep)
        assert torch.equal(x, sample(grid)), "it changes its input x in place"
    now = dict(attention.named_parameters()) | dict(attention.named_buffers())
    assert now.keys() == held.keys(), f"evaluation makes {', '.join(now.keys() ^ held.keys())}"
    for name, tensor in held.items():
        assert same(now[name], tensor), f"evaluation changes {name}"
    buffers = copied(attention.named_buffers())
    first = trained(attention, x)
    for name, parameter in attention.named_parameters():
        assert same(parameter, held[name]), f"the forward pass changes the parameter {name}"
    for name, buffer in attention.named_buffers():
        buffer.copy_(buffers[name])
    again = same(trained(attention, x), first)
    assert again, (
        "in training the output depends on earlier calls through state that no buffer, and so no checkpoint, holds"
    )


def trained(attention: attention_zoo.Attention, x: Tensor) -> Tensor:
    """The output at the real tokens in training, for a fixed seed."""
    torch.manual_seed(1)
    return attention.train()(x, padding(x))[padding(x)]


def device(spec: str, grid: Grid = None) -> None:
    """It works on any device: make tensors with device=x.device, and register those it keeps (parameters, buffers)."""
    x = sample(grid).float()
    attention, keep = build_attention(spec, grid=grid).to("meta"), padding(x).to("meta")
    for mask in (None, keep):
        message = ""
        try:
            attention(x.to("meta"), mask)
        except Exception as error:  # on "meta" no value can be read, and some kernels are missing
            message = str(error)
        assert "on device cpu" not in message, "it makes or holds a tensor on the CPU, whatever the device of x"


def same(first: Tensor, second: Tensor) -> bool:
    """Are they equal, where NaN equals NaN? It is for another check to report NaN."""
    if not first.is_floating_point():
        return torch.equal(first, second)
    return first.shape == second.shape and torch.allclose(first, second, rtol=0, atol=0, equal_nan=True)


def copied(named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in named}


def round_trip(spec: str, grid: Grid = None) -> None:
    """Weights survive safetensors into a fresh module: no unregistered buffer, no shared tensor."""
    attention, x = make(spec, grid), sample(grid)
    fresh = make(spec, grid, seed=99)
    fresh.load_state_dict(load(save(attention.state_dict())), strict=True)
    assert_close(fresh(x), attention(x), rtol=0.0, atol=0.0)


def deep_copy(spec: str, grid: Grid = None) -> None:
    """A deep copy computes the same and shares no memory; keep no lambda, hook or view of a parameter as attribute."""
    attention, x = make(spec, grid), sample(grid)
    twin = copy.deepcopy(attention)
    assert_close(twin(x), attention(x), rtol=0.0, atol=0.0)
    shared = {p.data_ptr() for p in attention.parameters()} & {p.data_ptr() for p in twin.parameters()}
    assert not shared, "the copy shares parameters with the original"
