"""What the checks share: how a check is declared, and the attention and samples it looks at."""

from collections.abc import Callable

import torch
from torch import Tensor

import attention_zoo

DIM, HEADS, LENGTH = 16, 2, 24
Grid = tuple[int, int] | None
Check = Callable[..., str | None]


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
    length = grid[0] * grid[1] if grid else length
    entry, options = attention_zoo.find(spec)
    return entry.build(attention_zoo.Dims(dim=dim, heads=heads, length=length, grid=grid, dropout=dropout), options)


def whole(spec: str, grid: Grid = None) -> bool:
    """Does it only ever see sequences of full length?"""
    return grid is not None or attention_zoo.find(spec)[0].padding == "fixed"


def make(spec: str, grid: Grid = None, *, dropout: float = 0.0, seed: int = 0) -> attention_zoo.Attention:
    """The attention in float64, evaluating, every parameter moved off its start, so that zeros hide nothing."""
    attention = build_attention(spec, grid=grid, dropout=dropout, seed=seed).double()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return attention.eval()


def sample(grid: Grid, batch: int = 3, tokens: int = LENGTH) -> Tensor:
    """x (B, N, D) in float64."""
    tokens = grid[0] * grid[1] if grid else tokens
    return torch.randn(batch, tokens, DIM, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def padding(x: Tensor) -> Tensor:
    """keep (B, N): rows of length N, 7, 1, ..."""
    lengths = torch.tensor([x.shape[1], 7, 1])[: x.shape[0]]
    return torch.arange(x.shape[1]) < lengths[:, None]
