"""Shifted-window attention (Swin; Liu et al. 2021, https://arxiv.org/abs/2103.14030).

After the authors' models/swin_transformer.py. Odd layers shift their windows by half a window. The authors roll the
image and mask what wrapped around; here the first windows start before the image, which is the same. Where windows do
not divide the image, which their code refuses, the last ones end outside of it.
Letters: N tokens, D width, K head width, H heads, P tokens of a window.
"""

import torch
from torch import Tensor, nn

from attention_zoo import Dims, QKVAttention, register, softmax_attention
from attention_zoo._windows import Windows, varies


@register(
    "swin",
    title="Swin",
    paper="https://arxiv.org/abs/2103.14030",
    cost="O(N)",
    family="sparse",
    state="the keys and values of its window",
    blind="tokens outside of its window in one layer",
    adapted="windows along the sequence, of window^2 tokens",
    departs={"bias=false": "no relative position bias"},
)
class SwinAttention(QKVAttention):
    """softmax(q k^T / sqrt K + B) v within windows; B depends on the offset of one token from another, per head.

    window: side of a window on a grid, at most the shorter side of the grid; a sequence gets windows of window^2
    tokens. The authors take 7 for images of 56 cells a side; 8 divides those of the Arena. Where a window spans the
    shorter side, or the sequence, no layer shifts. bias: the learned table B, drawn from a normal of std 0.02: for each
    head (2 window - 1)^2 parameters on a grid and 2 window^2 - 1 on a sequence. Mixing costs 2 N window^2 D
    multiply-adds. Raises ValueError for a window below 1.
    """

    def __init__(self, dims: Dims, *, window: int = 8, bias: bool = True, conv: int = 0):
        super().__init__(dims, conv=conv)
        if window < 1:
            raise ValueError(f"window={window}: must be at least 1")
        self.side = min(window, *dims.grid) if dims.grid else window**2
        shortest = min(dims.grid or (dims.length,))
        # The authors roll the image back by side // 2, so its first side // 2 tokens share no window with the others. A
        # first window that starts side - side // 2 tokens early gives the same windows.
        self.shift = -(self.side // 2) % self.side if dims.layer % 2 and self.side < shortest else 0
        self.bias = DistanceBias(dims.heads, self.side, axes=2 if dims.grid else 1) if bias else None

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        shape, open_ended = self.dims.grid or (q.shape[2],), not self.dims.grid and varies(keep)
        windows = Windows(shape=shape, size=self.side, shift=self.shift, varies=open_ended)
        bias = None if self.bias is None else self.bias()
        dropout = self.dims.dropout if self.training else 0.0
        q, k, v, keep = windows.cut(q), windows.cut(k), windows.cut(v), windows.mask(keep, q)
        y = softmax_attention(q, k, v, keep, bias=bias, dropout=dropout)
        return windows.join(y)


class DistanceBias(nn.Module):
    """B (H, P, P) from a table with an entry for each head and each signed offset of two places of a window."""

    index: Tensor

    def __init__(self, heads: int, side: int, *, axes: int):
        super().__init__()
        reach = 2 * side - 1
        self.table = nn.Parameter(0.02 * torch.randn(heads, reach**axes))
        steps = torch.arange(side)
        distance = steps[:, None] - steps + side - 1
        if axes == 2:
            rows, columns = distance[:, None, :, None], distance[None, :, None, :]
            distance = (rows * reach + columns).reshape(side**2, side**2)
        self.register_buffer("index", distance, persistent=False)

    def forward(self) -> Tensor:
        return self.table[:, self.index]
