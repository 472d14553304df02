"""A large matrix as a small picture."""

import torch.nn.functional as F
from torch import Tensor

SIDE = 128  # pixels of a picture, at most, in each direction


def shrink(matrix: Tensor, side: int = SIDE) -> Tensor:
    """(..., R, N) -> (..., r, n), each pixel the mean of a block: mass is kept, single peaks get paler."""
    size = min(side, matrix.shape[-2]), min(side, matrix.shape[-1])
    flat = matrix.reshape(-1, *matrix.shape[-2:])
    return F.adaptive_avg_pool2d(flat, size).reshape(*matrix.shape[:-2], *size)
