"""Linear attention with ELU + 1 features (Katharopoulos et al. 2020, https://arxiv.org/abs/2006.16236)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from attention_zoo import QKVAttention, linear_attention, register


@register("elu", title="ELU+1 linear", paper="https://arxiv.org/abs/2006.16236", cost="O(N)")
class ELUAttention(QKVAttention):
    """phi(q) (phi(k)^T v), normalised per query, with phi(t) = elu(t) + 1."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        return linear_attention(elu_plus_one(q), elu_plus_one(k), v, keep)


class ELUPlusOne(torch.autograd.Function):
    """t + 1 above zero, exp(t) below: literally elu(t) + 1 cancels, to exactly 0 at t = -8 in bfloat16."""

    @staticmethod
    def forward(ctx: Any, t: Tensor) -> Tensor:
        y = F.relu(t) + t.clamp(max=0).exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return gradient * y.clamp(max=1)


def elu_plus_one(t: Tensor) -> Tensor:
    """t (B, H, N, K) -> the same shape, positive."""
    return ELUPlusOne.apply(t.contiguous())  # pyright: ignore[reportReturnType]
