"""Fourier mixing (FNet; Lee-Thorp et al. 2021, https://arxiv.org/abs/2105.03824).

Letters: N tokens, D width; F_N and F_D are the Fourier transforms over them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from attention_zoo import Attention, Dims, register
from attention_zoo._parts import first_columns, refuse_longer, upcast, zero_padding


@register(
    "fnet",
    title="FNet",
    paper="https://arxiv.org/abs/2105.03824",
    cost="O(N log N)",
    family="mixing",
    state="every token with fixed weights",
    blind="the input when it weighs tokens: the weights are the same for every sequence",
    ordered=True,
    departs={"orthonormal=true": "orthonormal transforms"},
)
class FNetAttention(Attention):
    """y = Re(F_N x F_D): Fourier transforms over the tokens and over the width, no parameters at all.

    The transform over tokens always has the length of the longest sequence of the task, with zeros at padding, which is
    the same as padding every sequence to that length. `forward` raises ValueError for a longer sequence. orthonormal:
    divide by sqrt(length D), so that y is sqrt(N / (2 length)) times as large as x, 0.7 times at full length, since
    only the real part is kept. The paper does not divide, but normalises after the residual sum, which this suite's
    pre-norm encoder never does.
    """

    def __init__(self, dims: Dims, *, orthonormal: bool = True):
        super().__init__(dims)
        self.norm = "ortho" if orthonormal else "backward"

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        refuse_longer(x.shape[1], self.dims.length)
        seen = upcast(zero_padding(x, keep))
        spectrum = torch.fft.fft(seen, dim=-1, norm=self.norm)
        # padded by hand, and by one row too many, because torch.compile would compile the longest sequence separately
        spectrum = F.pad(spectrum, (0, 0, 0, self.dims.length + 1 - x.shape[1]))[:, : self.dims.length]
        mixed = torch.fft.fft(spectrum, dim=-2, norm=self.norm)
        return first_columns(mixed.real.mT, x.shape[1]).mT.to(x.dtype)
