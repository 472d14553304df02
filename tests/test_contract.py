"""Every registered attention, found by name, against the contract; a new file in the zoo is tested by being there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

import attention_zoo
from lra.testing import CHECKS, build_attention

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
LENGTH, SIDES = 300, (16, 16)
# Rows and tokens: rows on either side of 16, where torch changes convolutions; lengths below, at and above the sizes of
# windows and patches, the longest among them.
SHAPES = [(3, 130), (20, 55), (8, 257), (2, 8), (5, 299), (17, 64), (4, LENGTH), (2, 100)]


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("grid", [None, (4, 6)], ids=["sequence", "grid"])
@pytest.mark.parametrize("spec", SPECS)
def test_contract(spec, grid, check, request):
    entry, _ = attention_zoo.find(spec)
    if reason := entry.expected_failures.get(check.__name__):
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    check(spec, grid)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("grid", [None, SIDES], ids=["sequence", "grid"])
@pytest.mark.parametrize("spec", SPECS)
def test_compiled_once_for_every_shape(spec: str, grid: tuple[int, int] | None, training: bool):
    """One graph for all numbers of rows and all lengths, marked as the compiled gear marks them."""
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
    """The same with inductor, whose kernels must serve every shape, too."""
    with torch._dynamo.config.patch(error_on_recompile=True):
        compile_and_run(spec, grid, training, "inductor")


def compile_and_run(spec: str, grid: tuple[int, int] | None, training: bool, backend: Any) -> None:
    attention = build_attention(spec, grid=grid, length=LENGTH).train(training)
    has_one_length = grid is not None or attention_zoo.find(spec)[0].padding == "fixed"
    with from_nothing(), torch.set_grad_enabled(training):
        compiled = torch.compile(attention, fullgraph=True, backend=backend)
        for rows, tokens in SHAPES:
            tokens = attention.dims.length if has_one_length else tokens
            x = torch.randn(rows, tokens, attention.dims.dim, requires_grad=training)
            keep = torch.arange(tokens) < torch.linspace(1, tokens, rows).long()[:, None]
            for tensor in (x, keep):
                torch._dynamo.maybe_mark_dynamic(tensor, 0)
                if not has_one_length:
                    torch._dynamo.maybe_mark_dynamic(tensor, 1)
            y = compiled(x, keep)
            assert y.isfinite().all()
            if training:
                y.sum().backward()


@contextmanager
def from_nothing() -> Iterator[None]:
    """Forgets what was compiled, before and after."""
    torch._dynamo.reset()
    try:
        yield
    finally:
        torch._dynamo.reset()


@pytest.mark.parametrize("grid", [None, SIDES], ids=["sequence", "grid"])
@pytest.mark.parametrize("spec", SPECS)
def test_compiled_is_eager(spec: str, grid: tuple[int, int] | None):
    """What only a compiler is given (convolutions, windows, tables) computes the same, outputs and gradients."""
    attention = build_attention(spec, grid=grid, length=LENGTH).double().train()
    tokens = attention.dims.length if grid or attention_zoo.find(spec)[0].padding == "fixed" else 100
    x = torch.randn(3, tokens, attention.dims.dim, dtype=torch.float64, requires_grad=True)
    keep = torch.arange(tokens) < torch.tensor([[tokens], [70], [1]])
    inputs = [x, *attention.parameters()]
    results = []
    with from_nothing():
        for forward in (attention, torch.compile(attention, fullgraph=True, backend="aot_eager")):
            y = torch.where(keep[..., None], forward(x, keep), 0)
            results.append(
                [y, *torch.autograd.grad(y.square().sum(), inputs, materialize_grads=True, allow_unused=True)]
            )
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
