"""Gated linear attention in both directions (GLA; Yang et al. 2024, https://arxiv.org/abs/2312.06635).

After fla/layers/gla.py and fla/ops/gla/naive.py of the authors' fla-org/flash-linear-attention, in chunks; keys are as
wide as values, where the authors' have half the width. The backward direction is that of ViG (Liao et al. 2024,
https://arxiv.org/abs/2405.18425): both directions have the same q, k and v, but each its own gates; a token sees itself
in both; the result is their mean. Letters: B batch, N tokens, D width, H heads, K head width, M chunks, P tokens of a
chunk.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_zoo import Dims, QKVAttention, register
from attention_zoo._parts import merge_heads, split_heads, upcast, zero_padding
from attention_zoo._scan import CHUNK, add_ways, both_ways, carry, count_chunks, cut, join


@register(
    "gla",
    title="GLA",
    paper="https://arxiv.org/abs/2312.06635",
    cost="O(N)",
    family="recurrent",
    state="a K x K state per head and direction",
    ordered=True,
    differs="in both directions, as in ViG; keys as wide as values",
    departs={"gate=false": "no output gate", "smooth": "not the 16th root that the authors take of the forget gate"},
)
class GLAAttention(QKVAttention):
    """y = out(silu(gate(x)) * norm((q_i S_i + q_i S'_i) / (2 sqrt K))), S_i = a_i S_(i-1) + k_i^T v_i.

    a_i = sigmoid(forget(x_i))^(1 / smooth), a factor for each channel of k; S' runs from the last token to the first,
    with its own a. At padding a is 1 and k is 0. rank: width inside `forget`, which maps D to rank to 2 D. smooth: 16
    as the authors', so that a state has a half-life of some 16 tokens at the start. gate: the factor silu(gate(x)).
    `norm` is RMSNorm over a head. Parameters beside `qkv` and `out`: 3 D rank + 2 D, K, and D^2 + D of the gate. Mixing
    costs about 2 N (2 K + 32) D multiply-adds. Raises ValueError for a rank below 1 or a smooth that is not positive.
    """

    def __init__(self, dims: Dims, *, rank: int = 16, smooth: float = 16.0, gate: bool = True, conv: int = 0):
        super().__init__(dims, conv=conv)
        if rank < 1 or not 0 < smooth < float("inf"):
            raise ValueError(f"rank={rank}, smooth={smooth}: must be at least 1 and positive")
        self.smooth = smooth
        self.forget = nn.Sequential(nn.Linear(dims.dim, rank, bias=False), nn.Linear(rank, 2 * dims.dim))
        self.norm = nn.RMSNorm(dims.head_dim, eps=1e-5)
        self.gate = nn.Linear(dims.dim, dims.dim) if gate else None

    def mix(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """x (B, N, D) -> (B, N, D)."""
        q, k, v = self.project(x)
        ahead, back = (split_heads(t, self.dims.heads) for t in self.forget(x).chunk(2, dim=-1))
        with torch.autocast(x.device.type, enabled=False):
            log_decay = F.logsigmoid(both_ways(upcast(ahead), upcast(back))) / self.smooth
            q, k, values = (both_ways(upcast(t)) for t in (q * q.shape[-1] ** -0.5 / 2, k, v))
            if keep is not None:
                real = both_ways(keep[:, None, :, None])
                log_decay, k = log_decay * real, k * real
            y = add_ways(gated_scan(q, k, values, log_decay, count_chunks(x.shape[1], keep)))
            y = F.rms_norm(y, y.shape[-1:], upcast(self.norm.weight), self.norm.eps)
        if self.local is not None:
            y = y + self.local(v, keep)
        return merge_heads(y)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        x = zero_padding(x, keep)
        y = self.mix(x, keep).to(x.dtype)
        return self.out(y if self.gate is None else y * F.silu(self.gate(x)))


def gated_scan(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, chunks: int) -> Tensor:
    """y_i = q_i S_i, S_i = exp(log_decay_i) S_(i-1) + k_i^T v_i; all (..., N, K), log_decay at most 0.

    The decay of key j until query i is exp(total_i - total_j), total the sum of log_decay. As a product of exp(total_i)
    and exp(-total_j) it would overflow; here both factors are relative to a token between j and i, so that neither
    exceeds 1.
    """
    tokens = q.shape[-2]
    q, k, v, log_decay = (cut(t, chunks) for t in (q, k, v, log_decay))
    total = log_decay.cumsum(-2)
    last = total[..., -1:, :]
    update = (k * (last - total).exp()).transpose(-2, -1) @ v
    y = (q * total.exp()) @ carry(last.exp().transpose(-2, -1), update)
    return join(y + within(*(t.flatten(0, -3) for t in (q, k, v, total))).view_as(y), tokens)


def within(q: Tensor, k: Tensor, v: Tensor, total: Tensor) -> Tensor:
    """The part of y_i that comes from the chunk of i itself: q, k, v, total (chunks, P, K) -> the same shape.

    A token sees itself; then, for spans of 2, 4, ... tokens, the second half of each span sees its first half.
    """
    y = (q * k).sum(-1, keepdim=True) * v
    half = 1
    while half < CHUNK:
        (k_early, _), (v_early, _), (total_early, total_late), (_, q_late) = (
            t.unflatten(1, (-1, 2, half)).unbind(2) for t in (k, v, total, q)
        )
        edge = total_early[:, :, -1:]
        scores = (q_late * (total_late - edge).exp()) @ (k_early * (edge - total_early).exp()).transpose(-2, -1)
        y = y + F.pad(scores @ v_early, (0, 0, half, 0)).flatten(1, 2)
        half *= 2
    return y
