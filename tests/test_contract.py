"""Every registered attention against the contract; a new file in `attention_zoo` is found and tested, too."""

import functools
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import attention_zoo
from lra.testing import CHECKS, build_attention, parametrize_with_checks

SPECS = [
    *attention_zoo.names(),
    "softmax:conv=5",
    "relu:conv=3",
    "agent:agents=9,bias=true",
    "flatten:key_positions=true",
    "pola:key_positions=true,conv=0",
    "pola:gate=off,power=fixed,flows=opposite",
    "local:block=5",
    "swin:window=2",
    "longformer:window=4,tokens=2",
    "performer:kernel=relu",
    "nystrom:landmarks=4,conv=0",
    "pvt:reduction=3,conv=3",
]
# Options of mechanisms that do not read the grid. By default a short sequence is one block, hence softmax attention.
ON_SEQUENCES = [
    "bigbird:block=4,random=1",
    "sparse:block=5,columns=2",
    "sparse:pattern=strided,block=5",
    "informer:factor=1",
    "sinkhorn:block=5",
    "reformer:bucket=4,hashes=3",
    "synthesizer:kind=dense",
    "synthesizer:kind=mix,rank=3",
]
GRID = (4, 6)
LENGTH, SIDES = 300, (16, 16)
# Rows and tokens: rows below and above 16, where torch selects another convolution; lengths below, at and above the
# sizes of windows and patches, and the longest length.
SHAPES = [(3, 130), (20, 55), (2, 8), (17, 64), (4, LENGTH)]


@functools.cache
def sees_grid(spec: str) -> bool:
    """Does the mechanism, or a module of it, read the sides of a grid?"""
    parts = build_attention(spec, grid=SIDES).modules()
    return "grid" in attention_zoo.find(spec)[0].source or any(hasattr(part, "grid") for part in parts)


def sequences_and_grids() -> Iterator[Any]:
    """Yields (spec, grid). For a mechanism that does not read the grid, the checks on sequences include those on it."""
    for spec in SPECS:
        yield pytest.param(spec, None, id=f"{spec}-sequence")
        if sees_grid(spec):
            yield pytest.param(spec, GRID, id=f"{spec}-grid")


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize(("spec", "grid"), [*sequences_and_grids()])
def test_contract(spec, grid, check, request):
    entry, _ = attention_zoo.find(spec)
    if reason := entry.expected_failures.get(check.__name__):
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    check(spec, grid)


@pytest.mark.parametrize("spec", [spec for spec in SPECS if not sees_grid(spec)])
def test_a_grid_is_a_sequence_to_what_does_not_read_it(spec):
    """The same weights and the same outputs, bit for bit; else `sees_grid` is wrong, and the contract has a gap."""
    tokens = math.prod(GRID)
    flat, image = build_attention(spec, length=tokens), build_attention(spec, grid=GRID)
    assert_close(image.state_dict(), flat.state_dict(), rtol=0, atol=0)
    x = torch.randn(3, tokens, flat.dims.dim)
    keep = torch.arange(tokens) < torch.tensor([[tokens], [7], [1]])
    for training in (False, True):
        for mask in (None, keep):
            y, expected = (seeded(attention.train(training), x, mask) for attention in (image, flat))
            assert torch.equal(y, expected)


def seeded(attention: attention_zoo.Attention, x: Tensor, keep: Tensor | None) -> Tensor:
    torch.manual_seed(0)
    return attention(x, keep)


@pytest.mark.parametrize("spec", [*SPECS, *ON_SEQUENCES, "performer:padding_counts=true", "synthesizer:rank=4"])
def test_a_longer_sequence_is_refused_or_computed_as_if_built_for_it(spec):
    """It is never cut. Where sizes of parameters depend on dims.length, only the shape of a result is compared."""
    attention, longer = (build_attention(spec, length=n).double().eval() for n in (128, 512))
    start = attention.state_dict()
    same = {name: t.shape for name, t in start.items()} == {name: t.shape for name, t in longer.state_dict().items()}
    if same:
        longer.load_state_dict(start)
    for tokens in (129, 512):
        x = torch.randn(1, tokens, attention.dims.dim, dtype=torch.float64)
        try:
            y, refusal = attention(x), None
        except ValueError as error:
            y, refusal = longer(x), str(error)
        assert refusal in (None, f"{tokens} tokens, but built for at most 128")
        assert y.shape == x.shape
        if same:
            assert_close(y, longer(x), rtol=0, atol=1e-12)


@parametrize_with_checks(*ON_SEQUENCES, thorough=False)
def test_contract_on_sequences(spec, check):
    check(spec)


def compilations() -> Iterator[Any]:
    """Yields (spec, grid, training). Slow: options, evaluation, and grids of mechanisms that do not read the grid."""
    for spec in SPECS:
        for grid, name in ((None, "sequence"), (SIDES, "grid")):
            for training, mode in ((True, "training"), (False, "evaluation")):
                quick = training and spec in attention_zoo.names() and (grid is None or sees_grid(spec))
                marks = () if quick else pytest.mark.slow
                yield pytest.param(spec, grid, training, id=f"{spec}-{name}-{mode}", marks=marks)


@pytest.mark.parametrize(("spec", "grid", "training"), [*compilations()])
def test_compiled_once_for_every_shape(spec: str, grid: tuple[int, int] | None, training: bool):
    """One graph serves every number of rows and tokens, marked dynamic as by the compiled gear; results are right."""
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:  # noqa: ARG001
        graphs.append(graph)
        return graph.forward

    compile_and_run(spec, grid, training, backend)
    assert len(graphs) == 1


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("grid", [None, SIDES], ids=["sequence", "grid"])
@pytest.mark.parametrize("spec", SPECS)
def test_inductor_compiles_once_for_every_shape(spec: str, grid: tuple[int, int] | None, training: bool):
    """As above with inductor, whose kernels must serve every shape, too."""
    with torch._dynamo.config.patch(error_on_recompile=True):
        compile_and_run(spec, grid, training, "inductor")


def compile_and_run(spec: str, grid: tuple[int, int] | None, training: bool, backend: Any) -> None:
    attention = build_attention(spec, grid=grid, length=LENGTH).double().train(training)
    has_one_length = grid is not None or attention_zoo.find(spec)[0].padding == "fixed"
    with from_nothing(), torch.set_grad_enabled(training):
        compiled = torch.compile(attention, fullgraph=True, backend=backend)
        for rows, tokens in SHAPES:
            tokens = attention.dims.length if has_one_length else tokens
            x = torch.randn(rows, tokens, attention.dims.dim, dtype=torch.float64, requires_grad=training)
            keep = torch.arange(tokens) < torch.linspace(1, tokens, rows).long()[:, None]
            for tensor in (x, keep):
                torch._dynamo.maybe_mark_dynamic(tensor, 0)
                if not has_one_length:
                    torch._dynamo.maybe_mark_dynamic(tensor, 1)
            actual, expected = (results(forward(x, keep), keep, x, attention) for forward in (compiled, attention))
            torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def results(y: Tensor, keep: Tensor, x: Tensor, attention: attention_zoo.Attention) -> list[Tensor]:
    """y (B, N, D), zero at padding, and, in training, the gradients of x and of all parameters."""
    y = torch.where(keep[..., None], y, 0)
    if not y.requires_grad:
        return [y]
    inputs = [x, *attention.parameters()]
    return [y, *torch.autograd.grad(y.square().sum(), inputs, materialize_grads=True, allow_unused=True)]


@contextmanager
def from_nothing() -> Iterator[None]:
    """Clears what was compiled, before and after; silences the compiler's warnings and its long trace log."""
    torch._dynamo.reset()
    trace = logging.getLogger("torch.__trace")
    level = trace.level
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trace.setLevel(logging.CRITICAL)
            yield
    finally:
        trace.setLevel(level)
        torch._dynamo.reset()
