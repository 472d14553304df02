"""Adaptive pooling over the real tokens, for mechanisms that attend through a few means (Agent, Nyströmformer).

Letters: B batch, N tokens, A bins.
"""

import math

import torch
from torch import Tensor


def pooling_bins(
    bins: int, tokens: int, grid: tuple[int, int] | None, keep: Tensor | None, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """The members of each bin, (B or 1, A, N) bool, and which bins have any, (B, A) bool; None if all have.

    Along an axis of length L, bin i of A holds floor(i L / A) to ceil((i + 1) L / A) - 1, so that neighbouring bins may
    overlap. On a sequence, L counts the real tokens and a token's position is its rank among them. On a grid, each axis
    has the root of the number of bins, L is the side, and padded cells are left out of their bins.
    """
    if grid is not None:
        side = math.isqrt(bins)
        rows, columns = (axis_bins(torch.arange(n, device=device), n, side) for n in grid)
        members = (rows[:, None, :, None] & columns[None, :, None, :]).reshape(1, bins, tokens)
    elif keep is None:
        members = axis_bins(torch.arange(tokens, device=device), tokens, bins).unsqueeze(0)
    else:
        members = axis_bins(keep.cumsum(-1) - 1, keep.sum(-1, keepdim=True), bins)
    if keep is None:
        return members, None
    members = members & keep.unsqueeze(1)
    return members, members.any(-1)


def axis_bins(rank: Tensor, length: Tensor | int, bins: int) -> Tensor:
    """rank (..., N), length int or (..., 1) -> (..., A, N) bool: which bins of an axis hold each rank."""
    i = torch.arange(bins, device=rank.device)
    start, end = i * length // bins, -(-(i + 1) * length // bins)
    return (rank[..., None, :] >= start[..., :, None]) & (rank[..., None, :] < end[..., :, None])
