"""Attention to a shortened sequence (PVT's spatial reduction; Wang et al. 2021, https://arxiv.org/abs/2102.12122).

After Attention in the authors' classification/pvt.py. Where the reduction does not divide a side, the authors leave the
last tokens out of k and v; here the last patch is filled with zeros. A patch is real when any of its tokens is.
Letters: B batch, N tokens, D width, H heads, K head width, M patches, R reduction, C channels.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from attention_zoo import Dims, QKVAttention, register, softmax_attention
from attention_zoo._parts import merge_heads, split_heads
from attention_zoo._windows import varies


@register(
    "pvt",
    title="PVT",
    paper="https://arxiv.org/abs/2102.12122",
    cost="O(N^2)",
    family="low_rank",
    state="a key and a value for each patch of `reduction` tokens",
    blind="the order of patches",
    adapted_where={
        "reduction!=1": "strided convolution along the sequence",
        "keys!=0": "strided convolution along the sequence",
    },
)
class PVTAttention(QKVAttention):
    """softmax(q k^T / sqrt K) v, with k and v projected from norm(c), c a strided convolution of x.

    reduction: R, length and stride of the kernel, per axis; 1 is softmax attention. keys: if not 0, R is instead the
    smallest that leaves at most `keys` patches and, on a grid, divides both sides. keys=49 gives the authors' 8, 4, 2,
    1 on grids of 56, 28, 14, 7 cells a side, and of 32, 16, 8, 4. Above R = 1 there are D^2 R + 3 D parameters more,
    D^2 R^2 + 3 D on a grid, which start as PyTorch's layers do. conv: taps of a convolution of the unshortened v.
    Mixing costs 2 N^2 D / R multiply-adds, 2 N^2 D / R^2 on a grid. Raises ValueError for a reduction below 1, negative
    keys, or keys below the fewest whole patches that a grid can have.
    """

    def __init__(self, dims: Dims, *, reduction: int = 4, keys: int = 0, conv: int = 0):
        super().__init__(dims, conv=conv)
        if reduction < 1:
            raise ValueError(f"reduction={reduction}: must be at least 1")
        self.reduction = smallest_reduction(dims, keys) if keys else reduction
        if self.reduction > 1:
            layer = nn.Conv1d if dims.grid is None else nn.Conv2d
            self.shorten = layer(dims.dim, dims.dim, self.reduction, stride=self.reduction)
            self.norm = nn.LayerNorm(dims.dim)

    def project(self, x: Tensor, least: int = 1) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, N, D) -> q (B, H, N, K), k, v (B, H, M, K) of the M patches, M at least `least`."""
        if self.reduction == 1:
            return super().project(x)
        width, weight, bias = self.dims.dim, self.qkv.weight, self.qkv.bias
        image = self.as_image(x, least)
        if least > 1:  # a matrix product; the compiler would compile a strided convolution's gradient for each length
            parts = image.unflatten(2, (image.shape[2] // self.reduction, self.reduction)).transpose(1, 2)
            patches = F.linear(parts.flatten(2), self.shorten.weight.flatten(1), self.shorten.bias)
        else:
            patches = self.shorten(image).flatten(2).transpose(1, 2)
        k, v = F.linear(self.norm(patches), weight[width:], bias[width:]).chunk(2, dim=-1)
        q = F.linear(x, weight[:width], bias[:width])
        return split_heads(q, self.dims.heads), split_heads(k, self.dims.heads), split_heads(v, self.dims.heads)

    def as_image(self, t: Tensor, least: int) -> Tensor:
        """t (B, N, C) -> (B, C, N) or (B, C, rows, columns), zeros up to whole patches, `least` or more per axis."""
        image = t.transpose(1, 2)
        image = image if self.dims.grid is None else image.unflatten(-1, self.dims.grid)
        size = self.reduction
        missing = [max(least, -(-n // size)) * size - n for n in reversed(image.shape[2:])]
        return F.pad(image, [pad for count in missing for pad in (0, count)])

    def least(self, keep: Tensor | None) -> int:
        """The least number of patches per axis: 2 if compiled for every length, as 1 would be compiled separately."""
        return 2 if self.dims.grid is None and varies(keep) else 1

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        if keep is not None and self.reduction > 1:
            image, size = self.as_image(keep.unsqueeze(-1), self.least(keep)), self.reduction
            for axis in range(2, image.ndim):
                image = image.unflatten(axis, (image.shape[axis] // size, size)).any(axis + 1)
            keep = image.flatten(1)
        return softmax_attention(q, k, v, keep, dropout=self.dims.dropout if self.training else 0.0)

    def mix(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        y = self.attend(*self.project(x, self.least(keep)), keep)
        if self.local is not None:
            width = self.dims.dim
            v = F.linear(x, self.qkv.weight[2 * width :], self.qkv.bias[2 * width :])
            y = y + self.local(split_heads(v, self.dims.heads), keep)
        return merge_heads(y)


def smallest_reduction(dims: Dims, keys: int) -> int:
    """The smallest R that leaves at most that many patches and, on a grid, divides both sides. Raises ValueError."""
    if keys < 0:
        raise ValueError(f"keys={keys}: must be at least 1, or 0 to give the reduction itself")
    sides = dims.grid or (dims.length,)
    for size in range(1, max(sides) + 1):
        divides = dims.grid is None or all(side % size == 0 for side in sides)
        if divides and math.prod(-(-side // size) for side in sides) <= keys:
            return size
    raise ValueError(f"keys={keys}: no whole patches of a grid of {' x '.join(map(str, sides))} are so few")
