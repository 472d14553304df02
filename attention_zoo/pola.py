"""Polarity-aware linear attention (PolaFormer; Meng et al. 2025, https://arxiv.org/abs/2501.15061).

After the authors' models/pola_pvt.py. The gate multiplies the mix and the convolution, unactivated, as in their code;
the paper's Figure 2 gates the two flows only.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from attention_zoo import Dims, QKVAttention, register
from attention_zoo._parts import read, summarise, wide, zero_padding


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
        return q, k if self.positions is None else k + self.positions[: k.shape[1]]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        power = 1 + self.alpha * self.power.sigmoid()
        with torch.autocast(q.device.type, enabled=False):
            state, total, keys = summarise(polarise(k, power), wide(v), keep)
            # The scale of q and of k leaves the powers and meets in the state: softplus(s)^-r, twice.
            scale = F.softplus(self.scale).view_as(power) ** (-2 * power)
            scale = torch.cat((scale, scale), dim=-1)
            state, total = state * scale.transpose(-2, -1), total * scale
            # q- and q+ exchanged before a state is the state's halves exchanged.
            width, half = q.shape[-1], v.shape[-1] // 2
            state = torch.cat((state[..., :half], state.roll(width, -2)[..., half:]), dim=-1)
            total = torch.cat((total, total.roll(width, -1)), dim=-2)
            return read(polarise(q, power), state, total, 1e-6 * keys)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        x = zero_padding(x, keep)
        return self.out(self.mix(x, keep).to(x.dtype) * self.gate(x))


def polarise(t: Tensor, power: Tensor) -> Tensor:
    """t (B, H, N, K), power (H, 1, K) -> [max(t, 0)^power | max(-t, 0)^power] (B, H, N, 2K), in float32 at least."""
    return Polarise.apply(wide(t).contiguous(), power)  # pyright: ignore[reportReturnType]


class Polarise(torch.autograd.Function):
    """Both signs of the power with one power and one logarithm, the latter in backward alone.

    With w = g+ f+ + g- f-, the gradient is r w / t to t and w log|t| to r; at t = 0 both f, hence w, are 0.
    """

    @staticmethod
    def forward(ctx: Any, t: Tensor, power: Tensor) -> Tensor:
        signed = torch.copysign(t.abs() ** power, t)
        plus = F.relu(signed)
        y = torch.cat((plus, plus - signed), dim=-1)
        ctx.save_for_backward(t, power, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        t, power, y = ctx.saved_tensors
        (to_plus, to_minus), (plus, minus) = gradient.chunk(2, dim=-1), y.chunk(2, dim=-1)
        both = torch.addcmul(to_plus * plus, to_minus, minus)
        size = t.abs().clamp(min=torch.finfo(t.dtype).tiny)
        to_power = (both * size.log()).sum_to_size(power.shape)
        return both * power / torch.copysign(size, t), to_power
