"""Linear attention with the Taylor expansion of exp (Arora et al. 2024, Based, https://arxiv.org/abs/2402.18668).

After TaylorExp in the authors' based/models/mixers/linear_attention.py, on the whole head instead of 16 projected
channels.
Letters: B batch, N tokens, H heads, K head width, D width.
"""

import torch
from torch import Tensor

from attention_zoo import QKVAttention, linear_attention, register
from attention_zoo._parts import upcast


@register(
    "taylor",
    title="Taylor exp",
    paper="https://arxiv.org/abs/2402.18668",
    cost="O(N)",
    family="linear",
    state="(1 + K + K^2) x K sums per head",
    blind="the order of tokens, nor whether a large product of q and k is positive or negative",
    differs="on the whole head, not on 16 projected channels",
)
class TaylorAttention(QKVAttention):
    """Weights 1 + s + s^2 / 2, s = q k^T / sqrt K, normalised per query: exp(s) to the second order, at least 1/2.

    1e-12 is added to the normaliser. Features are 1, t / K^(1/4) and all products of two channels over sqrt(2 K): 1 + K
    + K^2 of them. It adds no parameters. Mixing costs 2 N (1 + K + K^2) D multiply-adds.
    """

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        return linear_attention(expand(upcast(q)), expand(upcast(k)), v, keep, eps=1e-12)


def expand(t: Tensor) -> Tensor:
    """t (B, H, N, K) -> (B, H, N, 1 + K + K^2)."""
    t = t / t.shape[-1] ** 0.25
    pairs = (t.unsqueeze(-1) * t.unsqueeze(-2)).flatten(-2) / 2**0.5
    return torch.cat((torch.ones_like(t[..., :1]), t, pairs), dim=-1)
