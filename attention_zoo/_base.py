"""The contract of an attention: `Attention` (x -> y) and, based on it, `QKVAttention` (q, k, v -> y).

Letters: B batch, N tokens, D width, H heads, K head width (D = H * K), F features, A agents.
Channels are head-major: channel c belongs to head c // K.
`keep` (B, N) is boolean, True at real tokens; None means that every token is real.
"""

import torch
from torch import Tensor, nn

from attention_zoo._dims import Dims
from attention_zoo._parts import LocalConv, merge_heads, rotate, split_heads, zero_padding


class Attention(nn.Module):
    """x (B, N, D), keep (B, N) or None -> (B, N, D).

    Outputs at real tokens never depend on padding, neither on its amount nor on its content; outputs at padding are
    finite and never read. N is at most `dims.length`; where a longer sequence would be cut off, ValueError is raised.
    """

    def __init__(self, dims: Dims):
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no method forward(x, keep=None)")


class QKVAttention(Attention):
    """Owns the projections, the padding and the optional local convolution; a subclass writes `attend`.

    y = out(attend(q, k, v) + local(v)), with [q | k | v] = qkv(x).

    Options of every subclass: `conv`, the taps (odd; 0 = none) of a depthwise convolution of v over the sequence, or
    over both axes of a grid, added to the result of `attend`. Many published comparisons are confounded by such a
    convolution, so every mechanism can have it. Raises ValueError for an even or negative number of taps.
    """

    shared_conv = True  # one kernel per channel of a head, shared by the heads; False: one per channel of the width

    def __init__(self, dims: Dims, *, conv: int = 0):
        super().__init__(dims)
        self.qkv = nn.Linear(dims.dim, 3 * dims.dim)
        self.out = nn.Linear(dims.dim, dims.dim)
        self.local = LocalConv(dims, taps=conv, shared=self.shared_conv) if conv else None

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        """q, k, v (B, H, N, K), keep (B, N) -> (B, H, N, K): the mechanism itself."""
        raise NotImplementedError(f"{type(self).__name__} has no method attend(q, k, v, keep=None)")

    def features(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """q, k (B, N, D) -> the same shapes: a map of the whole width before the heads are split; by default none."""
        return q, k

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, N, D) -> q, k, v (B, H, N, K)."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        if self.dims.rope:
            q, k = rotate(q, self.dims.head_dim), rotate(k, self.dims.head_dim)
        q, k = self.features(q, k)
        return split_heads(q, self.dims.heads), split_heads(k, self.dims.heads), split_heads(v, self.dims.heads)

    def mix(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """x (B, N, D) -> (B, N, D): everything between the projections, the convolution included."""
        q, k, v = self.project(x)
        y = self.attend(q, k, v, keep)
        # A smaller y would be broadcast silently. Not when compiling: comparing lengths would make them constants.
        if not torch.compiler.is_compiling() and getattr(y, "shape", None) != v.shape:
            found = tuple(y.shape) if hasattr(y, "shape") else f"a {type(y).__name__}"
            raise ValueError(f"{type(self).__name__}.attend returned {found} for v of {tuple(v.shape)}")
        if self.local is not None:
            y = y + self.local(v, keep)
        return merge_heads(y)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        x = zero_padding(x, keep)  # stops NaN at padding, forward and backward
        return self.out(self.mix(x, keep).to(x.dtype))
