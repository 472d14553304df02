"""Mamba-inspired linear attention (MLLA; Han et al. 2024, https://arxiv.org/abs/2405.16605).

After MLLABlock and LinearAttention in the authors' models/mlla.py: everything between a block's norm and its residual.
The block's two other convolutions, before the norm and after the residual, belong to their backbone and are left out.
Convolutions and projections have biases, which make padding differ from zero, so it is set to zero again wherever it
would be read. Letters: B batch, N tokens, D width, H heads, K head width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_zoo import Attention, Dims, LocalConv, register
from attention_zoo._kernels import ELUPlusOne
from attention_zoo._parts import merge_heads, split_heads, upcast, zero_padding
from attention_zoo._rotary import places, turned_attention


@register(
    "mlla",
    title="MLLA",
    paper="https://arxiv.org/abs/2405.16605",
    cost="O(N)",
    family="linear",
    state="K x K sums per head",
    adapted_where={"conv!=0": "1-D convolution", "front!=0": "1-D convolution", "rotary=true": "1-D rotation"},
    departs={
        "conv": "not the authors' convolution of 3 taps",
        "front": "not the authors' convolution of 3 taps in front",
        "rotary=false": "no rotation",
        "gate=false": "no gate",
    },
)
class MLLAAttention(Attention):
    """y = out(silu(gate(x)) * (attention(u) + conv(u))), u = silu(front(inner(x))), the values are u itself.

    attention: linear, on f = elu + 1 of q and k, both projected from u; f is rotated by a token's position in the
    numerator, not in the normaliser, which is f(q_i) sum_j f(k_j) + 1e-6 R for R real tokens. conv: taps of the
    convolution of u, one kernel per channel. front: taps of the convolution before the attention; 0 leaves out `inner`
    too, so that u is x. gate: the factor silu(gate(x)). rotary: the rotation, with one speed per plane of the whole
    width, falling geometrically from 1 towards 1 / 10,000, on a grid by row and by column. Width D has 5 D^2 + 5 D
    parameters, and (taps + 1) D for each convolution, (taps^2 + 1) D on a grid. Mixing costs 2 N K D multiply-adds. It
    does not support `positions: rope`. Raises ValueError for an even number of taps, or a width that cannot be rotated:
    an odd head width, or on a grid a width not divisible by 4.
    """

    def __init__(self, dims: Dims, *, conv: int = 3, front: int = 3, gate: bool = True, rotary: bool = True):
        super().__init__(dims)
        if front and (front < 1 or front % 2 == 0):
            raise ValueError(f"front={front}: the number of taps must be odd and positive, or 0 for none")
        if rotary and (dims.head_dim % 2 or (dims.grid is not None and dims.dim % 4)):
            raise ValueError(f"rotary=true: heads of {dims.head_dim} channels cannot be turned")
        self.planes = dims.dim // (2 if dims.grid is None else 4) if rotary else 0  # per axis
        self.inner = nn.Linear(dims.dim, dims.dim) if front else None
        self.front = LocalConv(dims, taps=front, shared=False) if front else None
        self.qk = nn.Linear(dims.dim, 2 * dims.dim)
        self.local = LocalConv(dims, taps=conv, shared=False) if conv else None
        self.gate = nn.Linear(dims.dim, dims.dim) if gate else None
        self.out = nn.Linear(dims.dim, dims.dim)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        x = zero_padding(x, keep)
        u = x
        if self.inner is not None and self.front is not None:
            u = self.front(split_heads(self.inner(x), self.dims.heads), keep)  # masks its input
            u = zero_padding(F.silu(merge_heads(u)), keep)
        q, k = (split_heads(t, self.dims.heads) for t in self.qk(u).chunk(2, dim=-1))
        v = split_heads(u, self.dims.heads)
        y = self.attend(q, k, v, keep)
        if self.local is not None:
            y = y + self.local(v, keep)
        y = merge_heads(y).to(x.dtype)
        return self.out(y if self.gate is None else y * F.silu(self.gate(x)))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        """q, k, v (B, H, N, K), keep (B, N) -> (B, H, N, K)."""
        with torch.autocast(q.device.type, enabled=False):
            q, k = (ELUPlusOne.apply(upcast(t).contiguous()) for t in (q, k))
            assert isinstance(q, Tensor)
            assert isinstance(k, Tensor)
            real: Tensor | int = q.shape[2]
            if keep is not None:
                mask = keep[:, None, :, None].to(k.dtype)
                k, real = k * mask, mask.sum(-2, keepdim=True).clamp(min=1)
            angle = None
            if self.planes:
                place = torch.arange(self.planes, device=q.device, dtype=q.dtype) / self.planes
                angle = places(q.shape[2], self.dims.grid, 10_000.0**-place)
                angle = angle.unflatten(-1, (self.dims.heads, -1)).transpose(0, 1)  # planes of the width, by head
            return turned_attention(q, k, upcast(v), angle, real)
