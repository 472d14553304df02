"""Injective linear attention with a local part (InLine; Han et al. 2024, https://arxiv.org/abs/2412.06590).

After InLineAttention in the authors' models/inline_pvt.py; `kernel` is the option of their models/inline_swin.py.
Letters: B batch, N tokens, D width, H heads, K head width, R real tokens, T taps of a kernel.
"""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_zoo import Dims, QKVAttention, register
from attention_zoo._parts import merge_heads, upcast

KERNELS = {
    "identity": lambda t: t,
    "relu": F.relu,
    "leakyrelu": F.leaky_relu,
    "exp": lambda t: (0.2 * t).exp(),
}


@register(
    "inline",
    title="InLine",
    paper="https://arxiv.org/abs/2412.06590",
    cost="O(N)",
    family="linear",
    state="K x K sums per head",
    blind="the order of tokens beyond the convolution's taps",
    adapted_where={"conv!=0": "1-D convolution"},
    departs={"conv": "not the authors' convolution of 3 taps"},
)
class InLineAttention(QKVAttention):
    """y_i = sum_j (s_ij - mean_j s_ij + 1 / R) v_j, s_ij = f(q_i) f(k_j) / (R sqrt K), and a convolution of v.

    The weights of a token sum to 1 because the mean of its s_ij is subtracted and 1 / R is added; other mechanisms
    divide by the sum. A weight may be negative or larger than 1. Two linear layers within each head, with GELU between
    them, predict the convolution's kernel for each sequence, head and channel from the mean of x. kernel: the function
    f: `identity`, `relu`, `leakyrelu`, or `exp` for exp(0.2 t), which overflows in float32 at inputs above 440. conv:
    taps of the predicted kernel along each axis; 0 leaves the convolution out. A kernel of T taps in all (3 on a
    sequence, 9 on a grid) adds (1 + T) (K + 1) D parameters, which start like those of nn.Linear. Mixing costs 2 N K D
    + N T D multiply-adds. Raises ValueError for an unknown kernel or an even number of taps.
    """

    def __init__(self, dims: Dims, *, kernel: str = "identity", conv: int = 3):
        super().__init__(dims)
        if kernel not in KERNELS:
            raise ValueError(f"kernel={kernel}: must be one of {', '.join(KERNELS)}")
        self.kernel = kernel
        self.predicted = PredictedConv(dims, taps=conv) if conv else None

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        f = KERNELS[self.kernel]
        with torch.autocast(q.device.type, enabled=False):
            q, k, v = f(upcast(q)), f(upcast(k)), upcast(v)
            real = None if keep is None else keep[:, None, :, None]
            k = k - mean(k, real)  # the same as subtracting mean_j s_ij, without a difference of large sums
            k = k if real is None else torch.where(real, k, 0)
            state = k.transpose(-2, -1) @ v / k.shape[-1] ** 0.5 / count(k, real)
            return q @ state + mean(v, real)

    def mix(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """x (B, N, D) -> (B, N, D)."""
        q, k, v = self.project(x)
        y = self.attend(q, k, v, keep)
        if self.predicted is not None:
            y = y + self.predicted(x, v, keep)
        return merge_heads(y)


def count(t: Tensor, real: Tensor | None) -> Tensor | int:
    """t (..., N, C), real (..., N, 1) -> the number of real tokens, at least 1: an int, or (..., 1, 1)."""
    return t.shape[-2] if real is None else real.sum(-2, keepdim=True).clamp(min=1)


def mean(t: Tensor, real: Tensor | None) -> Tensor:
    """t (..., N, C), real (..., N, 1) -> (..., 1, C), over the real tokens."""
    total = t if real is None else torch.where(real, t, 0)
    return total.sum(-2, keepdim=True) / count(t, real)


class PredictedConv(nn.Module):
    """Depthwise convolution of v, zero padded, whose kernels are predicted from the mean of x."""

    def __init__(self, dims: Dims, *, taps: int):
        super().__init__()
        if taps < 1 or taps % 2 == 0:
            raise ValueError(f"conv={taps}: the number of taps must be odd and positive, or 0 for none")
        self.grid, self.taps, self.axes = dims.grid, taps, 1 if dims.grid is None else 2
        self.hidden = HeadLinear(dims.heads, dims.head_dim, dims.head_dim)
        self.kernel = HeadLinear(dims.heads, dims.head_dim, dims.head_dim * taps**self.axes)

    def forward(self, x: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        """x (B, N, D) and v (B, H, N, K), finite, keep (B, N) -> (B, H, N, K); padding counts as zeros."""
        _, heads, tokens, width = v.shape
        centre = mean(upcast(x), None if keep is None else keep.unsqueeze(-1)).to(x.dtype)
        kernel = self.kernel(F.gelu(self.hidden(centre.view(-1, heads, width))))
        kernel = kernel.view(-1, heads, *[1] * self.axes, width, self.taps**self.axes)
        if keep is not None:
            v = torch.where(keep[:, None, :, None], v, 0)
        sides = (tokens,) if self.grid is None else self.grid
        image = F.pad(v.unflatten(2, sides), (0, 0, *[self.taps // 2] * 2 * self.axes))
        y = torch.zeros_like(v).unflatten(2, sides)
        for tap, shifts in enumerate(product(range(self.taps), repeat=self.axes)):
            shifted = image
            for axis, (shift, side) in enumerate(zip(shifts, sides, strict=True)):
                shifted = shifted.narrow(2 + axis, shift, side)
            y = y + kernel[..., tap] * shifted
        return y.flatten(2, -2)


class HeadLinear(nn.Module):
    """A linear layer for each head, x (B, H, C) -> (B, H, E)."""

    def __init__(self, heads: int, inside: int, outside: int):
        super().__init__()
        bound = inside**-0.5
        self.weight = nn.Parameter(torch.empty(heads, outside, inside).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(heads, outside).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bhc,hec->bhe", x, self.weight) + self.bias
