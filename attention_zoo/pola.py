"""Polarity-aware linear attention (PolaFormer; Meng et al. 2025, https://arxiv.org/abs/2501.15061).

After the authors' models/pola_pvt.py. The gate multiplies the mix and the convolution, unactivated, as in their code;
the paper's Figure 2 gates the two flows only.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_zoo import Dims, QKVAttention, linear_attention, register
from attention_zoo._parts import wide, zero_padding


@register(
    "pola",
    title="PolaFormer",
    paper="https://arxiv.org/abs/2501.15061",
    cost="O(N)",
    adapted="1-D convolution; no position table on k",
)
class PolaAttention(QKVAttention):
    """Two linear attentions, q+ k+ + q- k- on the first half of each head's v and q+ k- + q- k+ on the second, gated.

    t+ = max(t / softplus(s), 0)^r, t- = max(-t / softplus(s), 0)^r, r = 1 + alpha * sigmoid(w), per head and channel.
    alpha: range of the learned power. conv: taps of the convolution of v. key_positions: the authors' learned table
    added to k (length x D). Raises ValueError for an odd head width or a negative alpha.
    """

    def __init__(self, dims: Dims, *, alpha: float = 3.0, conv: int = 5, key_positions: bool = False):
        super().__init__(dims, conv=conv)
        if dims.head_dim % 2:
            raise ValueError(f"the head width must be even to hold two flows, not {dims.head_dim}")
        if not 0 <= alpha < float("inf"):
            raise ValueError(f"alpha={alpha}: must be at least 0")
        self.alpha = alpha
        self.gate = nn.Linear(dims.dim, dims.dim)
        self.scale = nn.Parameter(torch.zeros(dims.dim))
        self.power = nn.Parameter(torch.zeros(dims.heads, 1, dims.head_dim))
        self.positions = nn.Parameter(torch.zeros(dims.length, dims.dim)) if key_positions else None

    def features(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        if self.positions is not None:
            k = k + self.positions[: k.shape[1]]
        scale = F.softplus(self.scale)
        return q / scale, k / scale

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        power = 1 + self.alpha * self.power.sigmoid()
        q_plus, q_minus = polarise(q, power)
        k_both = torch.cat(polarise(k, power), dim=-1)
        v_same, v_opposite = v.chunk(2, dim=-1)
        same = linear_attention(torch.cat((q_plus, q_minus), dim=-1), k_both, v_same, keep, mean=True)
        opposite = linear_attention(torch.cat((q_minus, q_plus), dim=-1), k_both, v_opposite, keep, mean=True)
        return torch.cat((same, opposite), dim=-1)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        x = zero_padding(x, keep)
        return self.out(self.mix(x, keep).to(x.dtype) * self.gate(x))


def polarise(t: Tensor, power: Tensor) -> tuple[Tensor, Tensor]:
    """max(t, 0)^power and max(-t, 0)^power, the two signs of sgn(t) |t|^power.

    `pow` has gradient 0 at t = 0, where exp(power * log t) has NaN.
    """
    t = wide(t)
    signed = t.sign() * t.abs() ** power
    return F.relu(signed), F.relu(-signed)
