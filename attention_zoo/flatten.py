"""Focused linear attention (FLatten; Han et al. 2023, https://arxiv.org/abs/2308.00442).

After the authors' models/flatten_pvt.py; the norms are over the whole width, as in their code, not per head.
Letters: B batch, N tokens, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_zoo import Dims, QKVAttention, linear_attention, register
from attention_zoo._parts import refuse_longer, upcast


@register(
    "flatten",
    title="FLatten",
    paper="https://arxiv.org/abs/2308.00442",
    cost="O(N)",
    family="linear",
    state="K x K sums per head",
    blind="the order of tokens beyond the convolution's taps, nor negative entries of q and k",
    adapted_where={"conv!=0": "1-D convolution"},
    departs={
        "key_positions=false": "no position table on k",
        "conv": "not the authors' convolution of 5 taps",
        "power=1": "no focusing",
    },
)
class FLattenAttention(QKVAttention):
    """Linear attention on f(t) = u^p / |u^p| * |u|, u = (relu(t) + 1e-6) / softplus(s): same length, sharper direction.

    The normaliser is q_i sum_j k_j + 1e-6 R of these features, R the number of real tokens; powers and norms are over
    the whole width. s is a learned scale per channel, zero at the start. power: p. conv: taps of the convolution of v.
    key_positions: the authors' learned table added to k (length x D). Raises ValueError for a power below 1 or an even
    number of taps.
    """

    def __init__(self, dims: Dims, *, power: int = 3, conv: int = 5, key_positions: bool = False):
        super().__init__(dims, conv=conv)
        if power < 1:
            raise ValueError(f"power={power}: must be at least 1")
        self.power = power
        self.scale = nn.Parameter(torch.zeros(dims.dim))
        self.positions = nn.Parameter(torch.zeros(dims.length, dims.dim)) if key_positions else None

    def features(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        if self.positions is not None:
            refuse_longer(k.shape[1], self.dims.length)
            k = k + self.positions[: k.shape[1]]
        scale = F.softplus(self.scale)
        return focus(q, scale, self.power), focus(k, scale, self.power)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        return linear_attention(q, k, v, keep, mean=True)


def focus(t: Tensor, scale: Tensor, power: int) -> Tensor:
    """t (B, N, D) -> (B, N, D), non-negative; norms over the width D, not per head."""
    u = (F.relu(upcast(t)) + 1e-6) / scale
    # Dividing by the norm of sharp cancels any factor of u. Without the largest channel as divisor, (1e-6)^4 squared
    # is 0 in float32, and so is the norm of a token without a positive channel. Powers up to 3 do not need this
    # divisor as long as softplus(s) is below about 10, and keep their numbers bit for bit.
    sharp = (u / u.detach().amax(dim=-1, keepdim=True) if power > 3 else u) ** power
    return sharp * (u.norm(dim=-1, keepdim=True) / sharp.norm(dim=-1, keepdim=True))
