"""Functions whose gradients are written by hand: autograd's values, with a third of its passes over memory.

The callers explain the formulas: `read` in `_parts`, `elu` and `pola`. The gradients can be differentiated again.
Letters: B batch, N tokens, H heads, K head width, F features, G flows.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def is_recorded() -> bool:
    """Will the gradient that is being computed be differentiated again (`create_graph=True`)?

    A compiler asks for no second derivative, though it traces the backward pass with gradients switched on.
    """
    return torch.is_grad_enabled() and not torch.compiler.is_compiling()


def read(q: Tensor, state: Tensor, total: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """Shapes as in `Read` -> the normaliser (B, H, N, G, 1), and the quotients (B, H, N, G, K / G)."""
    normaliser = (total @ q.transpose(-2, -1) + eps).transpose(-2, -1).unsqueeze(-1)
    return normaliser, (q @ state).unflatten(-1, (total.shape[-2], -1)) / normaliser


class Read(torch.autograd.Function):
    """q (B, H, N, F), state (B, H, F, K), total (B, H, G, F), eps (B or 1, 1, 1, 1) -> (B, H, N, K): see `_parts.read`.

    The gradient of the quotient is computed from the saved quotient. The normalisers are computed as G rows, total q^T,
    because the G columns of q total^T would take as long as the whole product of q and state.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, state: Tensor, total: Tensor, eps: Tensor) -> Tensor:
        normaliser, y = read(q, state, total, eps)
        ctx.save_for_backward(q, state, total, eps, normaliser, y)
        return y.flatten(-2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, state, total, eps, normaliser, y = ctx.saved_tensors
        if is_recorded():  # the saved normaliser and y have no graph that leads to q, state and total
            normaliser, y = read(q, state, total, eps)
        scaled = gradient.unflatten(-1, y.shape[-2:]) / normaliser
        to_normaliser = -(scaled * y).sum(-1)
        scaled = scaled.flatten(-2).contiguous()
        to_q = scaled @ state.transpose(-2, -1)
        for flow in range(total.shape[-2]):
            to_q = torch.addcmul(to_q, to_normaliser[..., flow : flow + 1], total[..., flow : flow + 1, :])
        return to_q, q.transpose(-2, -1) @ scaled, to_normaliser.transpose(-2, -1) @ q, None


class ELUPlusOne(torch.autograd.Function):
    """t -> elu(t) + 1, computed as t + 1 above zero and exp(t) below: in bfloat16 the sum would be 0 at t = -8."""

    @staticmethod
    def forward(ctx: Any, t: Tensor) -> Tensor:
        y = F.relu(t) + t.clamp(max=0).exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return gradient * y.clamp(max=1)


class SignedPowers(torch.autograd.Function):
    """t (B, H, N, K), r (H, 1, K) -> [max(t, 0)^r | max(-t, 0)^r] (B, H, N, 2K).

    One power is computed for both signs, and one logarithm, which only the backward pass needs. Let f+ and f- be the
    two halves of the result, g+ and g- their gradients, and w = g+ f+ + g- f-. Then the gradient of t is r w / t, and
    that of r is w log|t|. At t = 0 both halves are 0, so w is 0, too.
    """

    @staticmethod
    def forward(ctx: Any, t: Tensor, r: Tensor) -> Tensor:
        signed = torch.copysign(t.abs() ** r, t)
        plus = F.relu(signed)
        y = torch.cat((plus, plus - signed), dim=-1)
        ctx.save_for_backward(t, r, y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        t, r, y = ctx.saved_tensors
        (to_plus, to_minus), (plus, minus) = gradient.chunk(2, dim=-1), y.chunk(2, dim=-1)
        both = torch.addcmul(to_plus * plus, to_minus, minus)
        smallest = torch.finfo(t.dtype).tiny
        size = t.abs().clamp(min=smallest)
        if is_recorded():  # at t = 0 the second derivative is 0, too, but its formula divides by the smallest number
            size = torch.where(size > smallest, size, 1)
        to_r = (both * size.log()).sum_to_size(r.shape)
        return both * r / torch.copysign(size, t), to_r
