"""Sliding-window attention with global tokens (Longformer; Beltagy et al. 2020, https://arxiv.org/abs/2004.05150).

Computed in chunks of half a window, so that memory grows with N times window; the Arena's own code masks a dense
matrix. As in the paper, global tokens have separate projections; the authors' start as copies of the local ones, these
start like nn.Linear. In the paper the task decides which tokens are global; here the first ones are, of which the very
first is the learned token where the protocol pools over `cls`.
Letters: B batch, N tokens, D width, H heads, K head width, P tokens of a chunk, C channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_zoo import Dims, QKVAttention, register, softmax_attention
from attention_zoo._parts import merge_heads, rotate, split_heads
from attention_zoo._windows import Windows, varies


@register(
    "longformer",
    title="Longformer",
    paper="https://arxiv.org/abs/2004.05150",
    cost="O(N)",
    family="sparse",
    state="`window` keys and values around it, and those of the global tokens",
    blind="tokens beyond half a window in one layer, unless one of the two is global, nor the order of those within",
)
class LongformerAttention(QKVAttention):
    """softmax(q k^T / sqrt K) v over window / 2 tokens on either side, the token itself and the global tokens.

    Global tokens attend to everything, by separate projections q', k', v'. window: even; with 2 N or more and no global
    tokens this is softmax attention (the paper takes 512 for texts of 4,096). tokens: how many of the first tokens are
    global; above 0 there are 3 D^2 + 3 D parameters more, `global_qkv`, which start like nn.Linear. Mixing costs about
    2 N (1.5 window + 2 tokens) D multiply-adds. Raises ValueError for a window that is odd or below 2, or negative
    tokens.
    """

    def __init__(self, dims: Dims, *, window: int = 128, tokens: int = 1, conv: int = 0):
        super().__init__(dims, conv=conv)
        if window < 2 or window % 2:
            raise ValueError(f"window={window}: must be even and at least 2")
        if tokens < 0:
            raise ValueError(f"tokens={tokens}: must be at least 0")
        self.reach, self.tokens = window // 2, tokens
        self.global_qkv = nn.Linear(dims.dim, 3 * dims.dim) if tokens else None

    def mix(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """x (B, N, D) -> (B, N, D)."""
        q, k, v = self.project(x)
        y = self.attend(q, k, v, keep)
        if self.global_qkv is not None:
            first, tokens = self.attend_globally(x, keep), x.shape[1]
            # padded by one row too many; torch.compile would compile a sequence of only global tokens separately
            first = F.pad(first, (0, 0, 0, tokens + 1 - first.shape[2]))[:, :, :tokens]
            y = torch.where(torch.arange(tokens, device=x.device)[:, None] < self.tokens, first, y)
        if self.local is not None:
            y = y + self.local(v, keep)
        return merge_heads(y)

    def attend_globally(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """x (B, N, D) -> (B, H, tokens, K): the result of attention for the global tokens."""
        assert self.global_qkv is not None
        q, k, v = self.global_qkv(x).chunk(3, dim=-1)
        if self.dims.rope:
            q, k = rotate(q, self.dims.head_dim), rotate(k, self.dims.head_dim)
        q, k, v = (split_heads(t, self.dims.heads) for t in (q[:, : self.tokens], k, v))
        return softmax_attention(q, k, v, keep, dropout=self.dims.dropout if self.training else 0.0)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        batch, tokens = q.shape[0], q.shape[2]
        reach, first = self.reach, min(self.tokens, tokens)
        windows = Windows(shape=(tokens,), size=reach, varies=varies(keep))
        real = torch.ones(batch, tokens, dtype=torch.bool, device=q.device) if keep is None else keep
        local = torch.where(torch.arange(tokens, device=q.device) < first, False, real)  # global keys are added below
        keys, values, seen = (neighbours(t, windows) for t in (k, v, local[:, None, :, None]))
        chunks = windows.counts[0]
        mask = seen[:, :, None, :, 0] & band(reach, reach, q.device)
        mask = mask | band(reach, 0, q.device)  # a token sees itself, real or not, so that no row is empty
        if first:
            keys, values = (
                torch.cat((t[:, :, :first].repeat_interleave(chunks, 0), near), dim=2)
                for t, near in ((k, keys), (v, values))
            )
            everywhere = real[:, None, None, :first].expand(batch, chunks, reach, first).flatten(0, 1)
            mask = torch.cat((everywhere.unsqueeze(1), mask), dim=-1)
        dropout = self.dims.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(windows.cut(q), keys, values, attn_mask=mask, dropout_p=dropout)
        return windows.join(y)


def neighbours(t: Tensor, windows: Windows) -> Tensor:
    """t (B, H, N, C) -> (B * chunks, H, 3 P, C): each chunk of P tokens between the previous and the next chunk."""
    size, chunks = windows.size, windows.counts[0]
    t = F.pad(t, (0, 0, size, (chunks + 1) * size - t.shape[2]))
    return t.unfold(2, 3 * size, size).permute(0, 2, 1, 4, 3).flatten(0, 1)


def band(size: int, reach: int, device: torch.device) -> Tensor:
    """(size, 3 size) bool: which keys of three successive chunks are within reach of a query of the middle one."""
    query, key = torch.arange(size, device=device), torch.arange(-size, 2 * size, device=device)
    return (query[:, None] - key).abs() <= reach
