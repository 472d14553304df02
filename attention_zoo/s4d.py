"""A bidirectional diagonal state-space model (S4D; Gu et al. 2022, https://arxiv.org/abs/2206.11893).

After models/s4/s4d.py of the authors' state-spaces/s4, with S4D-Lin's start, zero-order hold and the gated output; a
baseline from outside the attentions. That file looks back only; the second kernel, which looks ahead, is that of
`bidirectional` in their full layer, as in their runs on the Arena. The authors train log_step, decay and frequency at a
lr of 0.001 without weight decay; here all parameters follow the protocol. Their dropout between GELU and the output
projection is left out.
Letters: N tokens, D width; P in `kernels` is the number of columns of a table.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_zoo import Attention, Dims, register
from attention_zoo._parts import first_columns, upcast, zero_padding

STEPS = (0.001, 0.1)  # range of the discretisation steps at the start, log-uniform


@register(
    "s4d",
    title="S4D",
    paper="https://arxiv.org/abs/2206.11893",
    cost="O(N log N)",
    family="recurrent",
    state="`state` / 2 complex numbers per channel and direction",
    blind="the input when it weighs tokens: the kernel is the same for every sequence",
    ordered=True,
)
class S4DAttention(Attention):
    """y = GLU(out(gelu(h * x + d x))), with one kernel h per channel that reaches to both sides; * is a convolution.

    d is a number per channel, `skip`.
    h(t) = 2 Re sum_n c_n (exp(a_n step) - 1) / a_n exp(a_n step t). For a token behind, t is its distance; for a token
    ahead, t is its distance less one, and c has other values. a_n = -decay_n + i frequency_n, at the start -1/2 + i pi
    n. state: the authors' N, twice the number of n. Width D has D (3 state + 2 D + 4) parameters. Convolved in float32
    by FFT; padding is zero, so it has no influence. Raises ValueError for a state that is odd or below 2.
    """

    def __init__(self, dims: Dims, *, state: int = 64):
        super().__init__(dims)
        if state < 2 or state % 2:
            raise ValueError(f"state={state}: must be even and at least 2")
        modes = state // 2
        low, high = map(math.log, STEPS)
        self.log_step = nn.Parameter(low + (high - low) * torch.rand(dims.dim, 1))
        self.log_decay = nn.Parameter(torch.full((dims.dim, modes), math.log(0.5)))
        self.frequency = nn.Parameter(math.pi * torch.arange(modes).repeat(dims.dim, 1).float())
        self.mixture = nn.Parameter(torch.randn(2, dims.dim, modes, 2) / 2**0.5)
        self.skip = nn.Parameter(torch.randn(dims.dim))
        self.out = nn.Linear(dims.dim, 2 * dims.dim)

    def kernels(self) -> Tensor:
        """(2, D, length): lags 0, 1, ... behind a token, and lags 1, 2, ... ahead.

        exp(z (P i + j)) = exp(z P i) exp(z j) makes the kernel a product of two tables of sqrt(length) columns.
        """
        side = math.isqrt(self.dims.length - 1) + 1
        log_step, log_decay, frequency, mixture = map(
            upcast, (self.log_step, self.log_decay, self.frequency, self.mixture)
        )
        decay, step = log_decay.exp(), log_step.exp()
        rate, turn = -decay * step, frequency * step
        places = torch.arange(side, device=rate.device, dtype=rate.dtype)
        fine, coarse = (polar(rate[..., None] * t, turn[..., None] * t) for t in (places, places * side))
        held = divide(minus_one(polar(rate, turn)), (-decay, frequency))
        weight = multiply((mixture[..., 0], mixture[..., 1]), held)
        real, imaginary = multiply((weight[0][..., None], weight[1][..., None]), coarse)
        rows = torch.cat((real, -imaginary), dim=-2).transpose(-2, -1)
        kernels = 2 * rows @ torch.cat(fine, dim=-2)
        return kernels.flatten(-2)[..., : self.dims.length]

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        tokens = x.shape[1]
        x = zero_padding(x, keep)
        with torch.autocast(x.device.type, enabled=False):
            seen = upcast(x).transpose(1, 2)
            behind, ahead = first_columns(self.kernels(), tokens)
            both = torch.cat((behind, ahead.flip(-1)), dim=-1)  # lag -t has index 2 N - t of the circle
            mixed = torch.fft.rfft(seen, n=2 * tokens) * torch.fft.rfft(both, n=2 * tokens)
            y = torch.fft.irfft(mixed, n=2 * tokens)[..., :tokens] + upcast(self.skip)[:, None] * seen
        return F.glu(self.out(F.gelu(y.transpose(1, 2)).to(x.dtype)), dim=-1)


# Real and imaginary part, because files of weights and many tools do not support complex numbers.
Complex = tuple[Tensor, Tensor]


def polar(log_radius: Tensor, angle: Tensor) -> Complex:
    radius = log_radius.exp()
    return radius * angle.cos(), radius * angle.sin()


def minus_one(z: Complex) -> Complex:
    return z[0] - 1, z[1]


def multiply(a: Complex, b: Complex) -> Complex:
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def divide(a: Complex, b: Complex) -> Complex:
    size = b[0].square() + b[1].square()
    real, imaginary = multiply(a, (b[0], -b[1]))
    return real / size, imaginary / size
