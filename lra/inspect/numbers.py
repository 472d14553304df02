"""What a matrix of attention weights is like: entropy, rank, distance, mass on few keys, row sums; as a small picture.

Letters: N tokens, R rows (queries), M real tokens. Weights may be negative (those of a convolution are), so that shares
are shares of absolute values.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TOP = (1, 8, 64)  # the mass on the heaviest 1, 8 and 64 keys is reported
SIDE = 128  # pixels of a picture, at most, in each direction


def row_entropy(weights: Tensor) -> Tensor:
    """weights (..., R, N) -> (..., R), nats: -sum_j p_j log p_j of p = |weights| / their sum; NaN for rows of zeros."""
    size = weights.abs()
    total = size.sum(-1)
    return total.log() - torch.special.xlogy(size, size).sum(-1) / total


def effective_rank(values: Tensor) -> float:
    """exp of the entropy of singular values / their sum (Roy and Vetterli 2007)."""
    return float(row_entropy(values[None]).exp()) if values.max() > 0 else 0.0


def numerical_rank(values: Tensor, longest: int) -> int:
    """Singular values above the largest times longest * machine epsilon, LINPACK's and numpy's rule."""
    return int((values > values.max() * longest * torch.finfo(values.dtype).eps).sum())


def singular_values(weights: Tensor) -> Tensor:
    """weights (R, N) -> (min(R, N),), falling."""
    return torch.linalg.svdvals(weights)


def distances(rows: Tensor, columns: Tensor, grid: tuple[int, int] | None) -> Tensor:
    """Distances between positions (R,) and (N,) -> (R, N): along the sequence or, on a grid, Euclidean."""
    if grid is None:
        return (rows[:, None] - columns).abs().double()
    width = grid[1]
    down, right = rows[:, None] // width - columns // width, rows[:, None] % width - columns % width
    return (down**2 + right**2).double().sqrt()


def describe(
    weights: Tensor, rows: Tensor, real: Tensor, grid: tuple[int, int] | None, pixels: float = 1.0
) -> dict[str, float]:
    """The numbers of one matrix: weights (R, N), the positions of its rows (R,) and of the real tokens (M,).

    pixels: on a side of a token, more than 1 where tokens were merged.
    Entropies are in nats and as a fraction of log M; distances in tokens and, on a grid, in pixels, too; the rest are
    fractions of 1 or counts. Rows of zeros (no feature of the query is above zero) count as empty and are left out.
    """
    size = weights.abs()
    whole = size.sum(-1)
    full = whole > 0
    inside = size[:, real]
    if not full.any():
        return {"empty_rows": float(len(rows))}
    share = inside[full] / inside[full].sum(-1, keepdim=True)
    entropy = row_entropy(inside[full])
    low, middle, high = entropy.quantile(entropy.new_tensor([0.05, 0.5, 0.95])).tolist()
    numbers = {
        "entropy_nats": float(entropy.mean()),
        "entropy_relative": float(entropy.mean()) / max(math.log(len(real)), 1e-12),
        "entropy_p05": low,
        "entropy_median": middle,
        "entropy_p95": high,
    }
    ordered = share.topk(min(max(TOP), len(real)), dim=-1).values.cumsum(-1)
    numbers |= {f"top_{k}": float(ordered[:, min(k, len(real)) - 1].mean()) for k in TOP}
    for name, places in (("distance_tokens", None), ("distance_pixels", grid)):
        if name == "distance_tokens" or grid is not None:
            apart = distances(rows[full], real, places) * (1.0 if places is None else pixels)
            numbers |= {name: float((share * apart).sum(-1).mean()), f"{name}_uniform": float(apart.mean())}
    sums = weights[full].sum(-1)
    return numbers | {
        "row_sum_min": float(sums.min()),
        "row_sum_max": float(sums.max()),
        "negative": float(size[weights < 0].sum() / whole.sum()),
        "padding": float(1 - inside.sum() / whole.sum()),
        "empty_rows": float((~full).sum()),
    }


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's coefficient of two tensors of one shape; 0 when one is constant."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(a.norm() * b.norm())
    return float((a * b).sum()) / scale if scale else 0.0


def shrink(matrix: Tensor) -> Tensor:
    """A large matrix (..., R, N) as a small picture (..., r, n): each pixel is the mean of a block.

    The mass is kept; single peaks get paler.
    """
    size = min(SIDE, matrix.shape[-2]), min(SIDE, matrix.shape[-1])
    flat = matrix.reshape(-1, *matrix.shape[-2:])
    return F.adaptive_avg_pool2d(flat, size).reshape(*matrix.shape[:-2], *size)
