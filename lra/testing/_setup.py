"""What the checks share: the attention that they check, its inputs, and the modes in which it is checked."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.testing import assert_close

import attention_zoo

DIM, HEADS, LENGTH = 16, 2, 24
LONG = 150  # several blocks of those mechanisms that work block by block
Grid = tuple[int, int] | None
Check = Callable[..., str | None]
Forward = Callable[..., Any]  # x (B, N, D), keep (B, N) or None -> (B, N, D)


def build_attention(
    spec: str,
    *,
    dim: int = DIM,
    heads: int = HEADS,
    length: int = LENGTH,
    grid: Grid = None,
    dropout: float = 0.0,
    seed: int = 0,
) -> attention_zoo.Attention:
    """One attention by spec, outside any encoder, as its constructor makes it. Raises SpecError."""
    torch.manual_seed(seed)
    return attention_zoo.build(spec, dims_of(grid, dim=dim, heads=heads, length=length, dropout=dropout))


def dims_of(grid: Grid, **sizes: Any) -> attention_zoo.Dims:
    """The sizes of the checks, unless others are given."""
    sizes = {"dim": DIM, "heads": HEADS, "length": LENGTH} | sizes | ({"length": grid[0] * grid[1]} if grid else {})
    return attention_zoo.Dims(grid=grid, **sizes)


def has_one_length(spec: str, grid: Grid = None) -> bool:
    """Does the attention only ever see sequences of the full length?"""
    return grid is not None or attention_zoo.find(spec)[0].padding == "fixed"


def make(
    spec: str, grid: Grid = None, *, length: int = LENGTH, dropout: float = 0.0, seed: int = 0
) -> attention_zoo.Attention:
    """The attention in float64, in evaluation, with every parameter moved off its start so that zeros hide nothing."""
    attention = build_attention(spec, length=length, grid=grid, dropout=dropout, seed=seed).double()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return attention.eval()


def modes(spec: str, grid: Grid = None) -> Iterator[tuple[str, Forward]]:
    """The attention in evaluation, then in training without dropout, each with the name of the mode.

    In training every call gets a fresh attention, since a call may change its buffers. An attention whose outputs
    in training depend on random draws is checked in evaluation alone.
    """
    yield "in evaluation", make(spec, grid)

    def train(x: Tensor, keep: Tensor | None = None) -> Any:
        return make(spec, grid).train()(x, keep)

    def draw(seed: int) -> Any:
        attention = make(spec, grid).train()
        torch.manual_seed(seed)
        return attention(sample(grid))

    if torch.equal(draw(1), draw(2)):
        yield "in training", train


def cases(spec: str, grid: Grid = None) -> Iterator[tuple[str, Forward, Tensor]]:
    """The modes in which padding and rows are checked, each with an x; evaluation also with a long x."""
    for mode, forward in modes(spec, grid):
        yield mode, forward, sample(grid)
    if not has_one_length(spec, grid):
        yield f"in evaluation, {LONG} tokens", make(spec, length=LONG), sample(tokens=LONG)


def assert_same(y: Tensor, expected: Tensor, mode: str) -> None:
    """Asserts equality up to the rounding of float64."""

    def message(text: str) -> str:
        same_shape = y.shape == expected.shape
        return f"{mode}: " + (f"outputs differ by {(y - expected).detach().abs().max():.2g}" if same_shape else text)

    assert_close(y, expected, rtol=0, atol=1e-12, msg=message)


def sample(grid: Grid = None, batch: int = 3, tokens: int = LENGTH) -> Tensor:
    """x (B, N, D) in float64, from a normal distribution."""
    tokens = grid[0] * grid[1] if grid else tokens
    return torch.randn(batch, tokens, DIM, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def padding(x: Tensor) -> Tensor:
    """keep (B, N) for rows of length N, 7 and 1, or among LONG tokens N, 97 and 40."""
    lengths = torch.tensor([x.shape[1], *((97, 40) if x.shape[1] == LONG else (7, 1))])[: x.shape[0]]
    return torch.arange(x.shape[1]) < lengths[:, None]
