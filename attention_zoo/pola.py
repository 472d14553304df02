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
    added to k (length x D). For ablations, gate: `on`, `off`, or `sigmoid` of it; power: `learned`, or `fixed` where it
    starts, at 1 + alpha / 2; flows: `both`, or `same` or `opposite` for the whole of v. Raises ValueError for an odd
    head width with both flows, a negative alpha or an unknown word.
    """

    power: Tensor

    def __init__(
        self,
        dims: Dims,
        *,
        alpha: float = 3.0,
        conv: int = 5,
        key_positions: bool = False,
        gate: str = "on",
        power: str = "learned",
        flows: str = "both",
    ):
        super().__init__(dims, conv=conv)
        check_words(gate, power, flows)
        if dims.head_dim % 2 and flows == "both":
            raise ValueError(f"the head width must be even to hold two flows, not {dims.head_dim}")
        if not 0 <= alpha < float("inf"):
            raise ValueError(f"alpha={alpha}: must be at least 0")
        self.alpha, self.flows, self.squash = alpha, flows, gate == "sigmoid"
        self.gate = None if gate == "off" else nn.Linear(dims.dim, dims.dim)
        self.scale = nn.Parameter(torch.zeros(dims.dim))
        start = torch.zeros(dims.heads, 1, dims.head_dim)
        if power == "learned":
            self.power = nn.Parameter(start)
        else:
            self.register_buffer("power", start, persistent=False)
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
            return read(polarise(q, power), *self.route(state, total), 1e-6 * keys)

    def route(self, state: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        """state (B, H, 2K, K), total (B, H, 1, 2K) as [q+ | q-] reads them -> the same for the flows, total with each.

        q- and q+ exchanged before a state is the state's halves exchanged.
        """
        if self.flows == "same":
            return state, total
        width, half = total.shape[-1] // 2, state.shape[-1] // 2
        opposite, its_total = state.roll(width, -2), total.roll(width, -1)
        if self.flows == "opposite":
            return opposite, its_total
        return torch.cat((state[..., :half], opposite[..., half:]), dim=-1), torch.cat((total, its_total), dim=-2)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        x = zero_padding(x, keep)
        y = self.mix(x, keep).to(x.dtype)
        if self.gate is None:
            return self.out(y)
        return self.out(y * (self.gate(x).sigmoid() if self.squash else self.gate(x)))


def check_words(gate: str, power: str, flows: str) -> None:
    """Raises ValueError for a value that an option does not have."""
    known = {"gate": ("on", "off", "sigmoid"), "power": ("learned", "fixed"), "flows": ("both", "same", "opposite")}
    for (name, words), word in zip(known.items(), (gate, power, flows), strict=True):
        if word not in words:
            raise ValueError(f"{name}={word}: must be {', '.join(words[:-1])} or {words[-1]}")


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
