"""Mamba-2's state-space duality in both directions, as in Hydra (Hwang et al. 2024, https://arxiv.org/abs/2407.09941).

SSD is Dao and Gu's (2024, https://arxiv.org/abs/2405.21060); after mamba_ssm/modules/ssd_minimal.py of their
state-spaces/mamba and hydra/modules/hydra.py of goombalab/hydra. Hydra shifts each direction by one token, so that a
token meets itself only in the diagonal term. Its authors keep r, d and the bias of t out of weight decay; here all
parameters follow the protocol.
Letters: B batch, N tokens, D width, E inner width, H inner heads, K head width, S state, M chunks, P tokens of a chunk.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_zoo import Attention, Dims, register
from attention_zoo._convolution import convolve
from attention_zoo._parts import upcast, zero_padding
from attention_zoo._scan import CHUNK, add_ways, both_ways, carry, count_chunks, cut, join

STEPS = (0.001, 0.1)  # range of the discretisation steps at the start, log-uniform


@register(
    "mamba2",
    title="Mamba-2 (Hydra)",
    paper="https://arxiv.org/abs/2407.09941",
    cost="O(N)",
    family="recurrent",
    state="a K x `state` state per head and direction",
    ordered=True,
    departs={"short_conv=0": "no short convolution"},
)
class Mamba2Attention(Attention):
    """y_i = out(norm(c_(i-1) S_(i-1) + c'_(i+1) S'_(i+1) + (w v_i + d) v_i) silu(gate(x_i))).

    S_i = exp(-r t_i) S_(i-1) + t_i b_i^T v_i, with t = softplus(step(x) + bias) per head; i - 1 is the real token
    before i. S' runs from the last token to the first, with its own b', c' and t'. v, b and c are parts of inner(x),
    after a short convolution and silu; b and c, of width S, are shared by the heads. r = exp(log_rate) is a number per
    head, and so is w v_i + d = skip(v_i), from all E channels. At padding t is 0, which changes no state.
    state: S. expand: E / D; heads stay K wide, so there are expand times as many. short_conv: taps of the short
    convolution, odd, 0 for none. `norm` is RMSNorm over E. At the start r = d = 1, and t is log-uniform from 0.001 to
    0.1. Parameters: D (3 E + 4 S + 2 H) + (taps + 1) (E + 4 S) + E (H + 1) + 3 H. Mixing costs 2 N (2 S E + 32 (S + E))
    multiply-adds. It does not support `positions: rope`. Raises ValueError for a state or expand below 1, or an even or
    negative number of taps.
    """

    def __init__(self, dims: Dims, *, state: int = 64, expand: int = 2, short_conv: int = 7):
        super().__init__(dims)
        if state < 1 or expand < 1:
            raise ValueError(f"state={state}, expand={expand}: both must be at least 1")
        if short_conv and (short_conv < 0 or short_conv % 2 == 0):
            raise ValueError(f"short_conv={short_conv}: the number of taps must be odd and positive, or 0 for none")
        width, self.heads, self.state = expand * dims.dim, expand * dims.heads, state
        mixed = width + 4 * state
        self.inner = nn.Linear(dims.dim, mixed, bias=False)
        self.short = nn.Conv1d(mixed, mixed, short_conv, padding=short_conv // 2, groups=mixed) if short_conv else None
        self.step = nn.Linear(dims.dim, 2 * self.heads, bias=False)
        low, high = map(math.log, STEPS)
        start = (low + (high - low) * torch.rand(self.heads)).exp()
        self.step_bias = nn.Parameter(start + (-(-start).expm1()).log())  # softplus(step_bias) = start
        self.log_rate = nn.Parameter(torch.zeros(self.heads))
        self.skip = nn.Linear(width, self.heads)
        nn.init.ones_(self.skip.bias)
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.gate = nn.Linear(dims.dim, width, bias=False)
        self.out = nn.Linear(width, dims.dim, bias=False)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        x = zero_padding(x, keep)
        mixed = self.inner(x)  # zero at padding, for it has no bias
        if self.short is not None:
            mixed = convolve(self.short, mixed.transpose(1, 2)).transpose(1, 2)
        # silu after the split: the compiler would store parts of one tensor with strides that serve only one length
        parts = mixed.split((mixed.shape[-1] - 4 * self.state, 2 * self.state, 2 * self.state), dim=-1)
        v, ahead, back = map(F.silu, parts)
        skip, steps = self.skip(v), self.step(x).chunk(2, dim=-1)
        with torch.autocast(x.device.type, enabled=False):
            v, step = upcast(v), F.softplus(both_ways(*map(upcast, steps)) + upcast(self.step_bias))
            b, c = both_ways(upcast(ahead), upcast(back)).chunk(2, dim=-1)
            if keep is not None:
                real = both_ways(keep.unsqueeze(-1))
                step, c = step * real, hold(c, real)
            log_decay = -upcast(self.log_rate).exp() * step
            y = ssd(c, b, both_ways(v) * self.widen(step), log_decay, count_chunks(x.shape[1], keep))
            y = add_ways(F.pad(y, (0, 0, 1, -1)))  # a token takes what the previous one read, in each direction
            y = F.rms_norm(y + self.widen(upcast(skip)) * v, v.shape[-1:], upcast(self.norm.weight), self.norm.eps)
        return self.out(y.to(x.dtype) * F.silu(self.gate(x)))

    def widen(self, t: Tensor) -> Tensor:
        """t (..., H) -> (..., E), the same for all channels of a head."""
        return t.repeat_interleave(self.dims.head_dim, dim=-1)


def hold(t: Tensor, real: Tensor) -> Tensor:
    """t (B, 2, N, S), real (B, 2, N, 1) -> t, with the last real token's value at padding, for the next to read."""
    place = torch.arange(t.shape[-2], device=t.device)[:, None]
    return t.gather(-2, (place * real).cummax(-2).values.expand_as(t))


def ssd(c: Tensor, b: Tensor, v: Tensor, log_decay: Tensor, chunks: int) -> Tensor:
    """y_i = c_i S_i, S_i = exp(log_decay_i) S_(i-1) + b_i^T v_i; within a chunk (L * c b^T) v, L the decays.

    c, b (B, 2, N, S), v (B, 2, N, E), log_decay (B, 2, N, H), at most 0 -> (B, 2, N, E).
    """
    tokens, heads = v.shape[-2], log_decay.shape[-1]
    c, b, v, log_decay = (cut(t, chunks) for t in (c, b, v, log_decay))
    total = log_decay.cumsum(-2)
    widened = total.repeat_interleave(v.shape[-1] // heads, dim=-1)
    last = widened[..., -1:, :]
    update = b.transpose(-2, -1) @ (v * (last - widened).exp())
    y = (c @ carry(last.exp(), update)) * widened.exp()
    later = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=v.device).triu(1)
    total = total.transpose(-2, -1)
    decay = (total.unsqueeze(-1) - total.unsqueeze(-2)).masked_fill(later, -torch.inf).exp()
    scores = decay * (c @ b.transpose(-2, -1)).unsqueeze(-3)
    within = scores @ v.unflatten(-1, (heads, -1)).transpose(-3, -2)
    return join(y + within.transpose(-3, -2).flatten(-2), tokens)
