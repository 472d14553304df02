"""Features rotated by their position, along a sequence or by row and column of a grid (RALA, MLLA).

Letters: B batch, H heads, N tokens, K head width, F features, R real tokens.
"""

import torch
from torch import Tensor


def places(tokens: int, grid: tuple[int, int] | None, speed: Tensor) -> Tensor:
    """speed (F / 2) or, on a grid, (F / 4) -> angles (N, F / 2): position times speed, by row and then by column."""
    place = torch.arange(tokens, device=speed.device)
    axes = (place,) if grid is None else (place // grid[1], place % grid[1])
    return torch.cat([axis[:, None] * speed for axis in axes], dim=-1)


def turn(t: Tensor, angle: Tensor) -> Tensor:
    """t (B, H, N, F), angle (N, F / 2) or (H, N, F / 2) -> like t: channels 2 c and 2 c + 1 are rotated as a plane."""
    cosine, sine = angle.cos(), angle.sin()
    even, odd = t[..., ::2], t[..., 1::2]
    return torch.stack((even * cosine - odd * sine, odd * cosine + even * sine), dim=-1).flatten(-2)


def turned_attention(q: Tensor, k: Tensor, v: Tensor, angle: Tensor | None, real: Tensor | int) -> Tensor:
    """y_i = turn(q_i) sum_j turn(k_j)^T v_j / (q_i sum_j k_j + 1e-6 R): the normaliser is not turned.

    q, k (B, H, N, K) features, k zero at padding, v (B, H, N, K), angle as in `turn` or None for none, real: R, a
    number or (B, 1, 1, 1) -> (B, H, N, K).
    """
    normaliser = q @ k.sum(-2).unsqueeze(-1) + 1e-6 * real
    if angle is not None:
        q, k = turn(q, angle), turn(k, angle)
    return q @ (k.transpose(-2, -1) @ v) / normaliser
