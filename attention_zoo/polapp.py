"""PolaFormer++ (Meng et al. 2026, https://github.com/ZacharyMeng/PolaFormerPP).

After PolaLinearAttention in the authors' polaformer++/models/pola.py (fd26f5e): exponential features with temperatures
in place of PolaFormer's powers, and rotary positions. The authors' exponentials overflow in float32 at inputs of about
30. Here the excess of the largest exponent over 30 is subtracted from all exponents, which cancels in the quotient. The
quotient itself still overflows at inputs of 100: features are rotated in its numerator but not in its normaliser, which
therefore does not bound it.
Letters: B batch, N tokens, D width, H heads, K head width, F features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_zoo import Dims, QKVAttention, register
from attention_zoo._parts import upcast, zero_padding


@register(
    "polapp",
    title="PolaFormer++",
    paper="https://github.com/ZacharyMeng/PolaFormerPP",
    cost="O(N)",
    family="linear",
    state="2 K x K sums per head",
    adapted_where={"conv!=0": "1-D convolution", "rotary=true": "1-D rotation"},
    departs={"conv": "not the authors' convolution of 5 taps", "rotary=false": "no rotation"},
)
class PolaPlusAttention(QKVAttention):
    """y = out(gate(x) * ([a_s | a_o] + convolution of v)): linear attentions on halves of each head's v, as in pola.

    Features of k are exp([k+ | k-]) - 1, t+ = max(t, 0), t- = max(-t, 0); those of q are exp(sigmoid(s1) [q+ | q-]) - 1
    for a_s (same signs) and exp(sigmoid(s2) [q- | q+]) - 1 for a_o (opposite signs). Each normaliser is the product of
    q's features with the sum of k's, plus 1e-6 times the number of real tokens. rotary: rotate the features by their
    position in the numerators, at speeds from 1 to 1 / 10,000; in the normalisers they are never rotated. conv: taps of
    the convolution of v, one kernel per channel. Parameters beside `qkv`, `out` and the convolution: s1 and s2, 4 D,
    zero at the start; the gate, D^2 + D. Mixing costs 4 N K D multiply-adds. Raises ValueError for an odd head width or
    an even number of taps.
    """

    shared_conv = False

    def __init__(self, dims: Dims, *, conv: int = 5, rotary: bool = True):
        super().__init__(dims, conv=conv)
        if dims.head_dim % 2:
            raise ValueError(f"the head width must be even to hold two flows, not {dims.head_dim}")
        self.rotary = rotary
        self.gate = nn.Linear(dims.dim, dims.dim)
        self.same, self.opposite = (nn.Parameter(torch.zeros(dims.heads, 1, 2 * dims.head_dim)) for _ in range(2))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):
            q, k, v = upcast(q), upcast(k), upcast(v)
            same = torch.cat((F.relu(q), F.relu(-q)), dim=-1) * upcast(self.same).sigmoid()
            opposite = torch.cat((F.relu(-q), F.relu(q)), dim=-1) * upcast(self.opposite).sigmoid()
            k = torch.cat((F.relu(k), F.relu(-k)), dim=-1)
            count: Tensor | int = k.shape[2]
            if keep is not None:
                k = torch.where(keep[:, None, :, None], k, 0)
                count = keep.sum(-1).clamp(min=1).to(k.dtype)[:, None, None, None]
            top = excess(k, (-2, -1))
            k = exp_minus_one(k, top)
            k = k if keep is None else torch.where(keep[:, None, :, None], k, 0)
            normaliser = k.sum(-2).unsqueeze(-1)
            states = (self.rotate(k).transpose(-2, -1) @ v).chunk(2, dim=-1)
            flows = []
            for exponents, state in zip((same, opposite), states, strict=True):
                peak = excess(exponents, -1)
                flow = exp_minus_one(exponents, peak)
                eps = (1e-6 * count * (-top - peak).exp()).clamp(min=torch.finfo(k.dtype).tiny)
                flows.append(self.rotate(flow) @ state / (flow @ normaliser + eps))
        return torch.cat(flows, dim=-1)

    def rotate(self, t: Tensor) -> Tensor:
        """t (B, H, N, F) -> the same shape: channels 2 c and 2 c + 1 are rotated as a plane, if `rotary`."""
        if not self.rotary:
            return t
        angle = angles(t, self.dims.grid)
        cosine, sine = angle.cos(), angle.sin()
        even, odd = t[..., ::2], t[..., 1::2]
        return torch.stack((even * cosine - odd * sine, odd * cosine + even * sine), dim=-1).flatten(-2)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        x = zero_padding(x, keep)
        return self.out(self.mix(x, keep).to(x.dtype) * self.gate(x))


def excess(exponents: Tensor, dim: int | tuple[int, int]) -> Tensor:
    """How far the largest exponent lies above 30, at least 0; features are divided by its exp, which cancels."""
    return (exponents.detach().amax(dim, keepdim=True) - 30).clamp(min=0)


def exp_minus_one(exponents: Tensor, excess: Tensor) -> Tensor:
    """(exp(t) - 1) exp(-excess)."""
    return (exponents - excess).expm1() - (-excess).expm1()


def angles(t: Tensor, grid: tuple[int, int] | None) -> Tensor:
    """Angles (N, F / 2) for t (B, H, N, F), speeds from 1 to 1 / 10,000; on a grid half by row, half by column."""
    tokens, planes = t.shape[2], t.shape[3] // 2
    place = torch.arange(tokens, device=t.device)
    axes = (place,) if grid is None else (place // grid[1], place % grid[1])
    speed = 10_000.0 ** -torch.linspace(0, 1, planes // len(axes), device=t.device, dtype=t.dtype)
    return torch.cat([axis[:, None] * speed for axis in axes], dim=-1)
