"""Rank-augmented linear attention (RALA; Fan et al. 2025, https://arxiv.org/abs/2411.07635).

After GateLinearAttentionNoSilu in the authors' classfication/RALA.py. The convolution before their block's norm, whose
result also enters the residual, belongs to their backbone and is left out. Convolutions start as PyTorch's do, uniform
within 1 / sqrt(fan in); the authors' start normal with a standard deviation of 0.02.
Letters: B batch, H heads, N tokens, D width, K head width, R real tokens.
"""

import torch
from torch import Tensor, nn

from attention_zoo import Dims, QKVAttention, register
from attention_zoo._kernels import ELUPlusOne
from attention_zoo._parts import upcast, zero_padding
from attention_zoo._rotary import places, turned_attention


@register(
    "rala",
    title="RALA",
    paper="https://arxiv.org/abs/2411.07635",
    cost="O(N)",
    family="linear",
    state="K x K sums per head",
    adapted_where={"conv!=0": "1-D convolution", "rotary=true": "1-D rotation"},
    departs={"conv": "not the authors' convolution of 5 taps", "rotary=false": "no rotation"},
)
class RALAAttention(QKVAttention):
    """y = out(gate(x) * (attention + convolution of v)): linear attention on q'_i = f(q_i) and k'_j = a_j f(k_j).

    f = elu + 1 and a_j = R softmax_j(mean_i f(q_i) f(k_j) / sqrt K). Features are rotated by their position in the
    numerator, not in the normaliser, which is q'_i sum_j k'_j + 1e-6 R. conv: taps of that convolution, one kernel per
    channel. rotary: the rotation, of speeds from 1 to 1 / 10,000, on a grid by row and by column. The gate has D^2 + D
    parameters. Mixing costs 2 N K D + 3 N D multiply-adds. Raises ValueError for an even number of taps, or a head
    width that cannot be rotated: odd, or on a grid not divisible by 4.
    """

    shared_conv = False

    def __init__(self, dims: Dims, *, conv: int = 5, rotary: bool = True):
        super().__init__(dims, conv=conv)
        axes = 1 if dims.grid is None else 2
        if rotary and dims.head_dim % (2 * axes):
            raise ValueError(f"rotary=true: the head width must be divisible by {2 * axes}, not {dims.head_dim}")
        self.planes = dims.head_dim // 2 // axes if rotary else 0  # per axis
        self.gate = nn.Linear(dims.dim, dims.dim)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):
            q, k = (ELUPlusOne.apply(upcast(t).contiguous()) for t in (q, k))
            assert isinstance(q, Tensor)
            assert isinstance(k, Tensor)
            real: Tensor | int = q.shape[2]
            seen = q
            if keep is not None:
                mask = keep[:, None, :, None].to(q.dtype)
                k, seen, real = k * mask, q * mask, mask.sum(-2, keepdim=True).clamp(min=1)
            k = k * (real * weights(seen.sum(-2, keepdim=True) / real, k, keep))
            angle = None
            if self.planes:
                speed = 10_000.0 ** -torch.linspace(0, 1, self.planes, device=q.device, dtype=q.dtype)
                angle = places(q.shape[2], self.dims.grid, speed)
            return turned_attention(q, k, upcast(v), angle, real)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        x = zero_padding(x, keep)
        return self.out(self.mix(x, keep).to(x.dtype) * self.gate(x))


def weights(query: Tensor, k: Tensor, keep: Tensor | None) -> Tensor:
    """query (B, H, 1, K), k (B, H, N, K), keep (B, N) -> softmax over the real keys (B, H, N, 1)."""
    scores = k @ query.transpose(-2, -1) / k.shape[-1] ** 0.5
    if keep is not None:  # without real keys the softmax is over all keys, so that it stays finite
        scores = scores.masked_fill(~(keep | ~keep.any(-1, keepdim=True))[:, None, :, None], -torch.inf)
    return scores.softmax(-2)
