"""Entropy of attention rows before and after a power on the features, for the q and k that a model really has.

The claim (PolaFormer's theorem, https://arxiv.org/abs/2501.15061): some power above 1 lowers the entropy of a row. The
theorem does not say that every power lowers every row, so the share of rows that a power lowers is measured, too.
Letters: N tokens, D width, H heads, K head width, R rows (queries).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from attention_zoo._parts import rotate
from lra.inspect.calls import Call
from lra.inspect.numbers import row_entropy
from lra.inspect.probe import MATRIX_BYTES, choose_rows

POWERS = tuple(range(1, 8))
KERNELS = {
    "relu": "relu(q)^p · relu(k)^p",
    "focused": "f(q) · f(k), f(t) = u^p |u| / |u^p|, u = relu(t), norms over the width",
    "same sign": "q+^p · k+^p + q-^p · k-^p",
    "opposite sign": "q+^p · k-^p + q-^p · k+^p",
}


def signed(call: Call) -> tuple[Tensor, Tensor]:
    """q and k (M, H, K) of the real tokens before any power.

    That is what `attend` receives, if it has both signs. For a mechanism with a `scale`, or with non-negative features,
    it is the output of the projection, divided by softplus of the scale if there is one.
    """
    q, k = (t[0].transpose(0, 1) for t in (call.q, call.k))
    module = call.module
    scale = getattr(module, "scale", None)
    if not hasattr(module, "qkv") or (scale is None and bool((q < 0).any())):
        return q[call.real], k[call.real]
    projected = [*module.get_submodule("qkv")(call.x).chunk(3, dim=-1)]
    if getattr(getattr(module, "dims", None), "rope", False):
        projected[:2] = (rotate(t[None], q.shape[-1])[0] for t in projected[:2])
    table = getattr(module, "positions", None)
    moved = projected[1] if table is None else projected[1] + table[: len(call.x)]
    is_per_channel = isinstance(scale, Tensor) and scale.numel() == moved.shape[-1]
    by = F.softplus(scale).flatten() if is_per_channel else 1  # pyright: ignore[reportArgumentType]
    return tuple((t / by).unflatten(-1, q.shape[1:])[call.real] for t in (projected[0], moved))  # pyright: ignore[reportReturnType]


def weights(kernel: str, power: float, q: Tensor, k: Tensor) -> Tensor:
    """q (R, H, K), k (M, H, K) -> unnormalised weights (H, R, M), non-negative."""
    if kernel == "focused":
        q, k = focus(q, power), focus(k, power)
    q_plus, k_plus = q.clamp(min=0), k.clamp(min=0)
    if kernel in ("same sign", "opposite sign"):
        q_minus, k_minus = (-q).clamp(min=0), (-k).clamp(min=0)
        q_plus = torch.cat((q_plus, q_minus), dim=-1)
        k_plus = torch.cat((k_plus, k_minus) if kernel == "same sign" else (k_minus, k_plus), dim=-1)
    if kernel != "focused":
        q_plus, k_plus = q_plus**power, k_plus**power
    return torch.einsum("rhk,mhk->hrm", q_plus, k_plus)


def focus(t: Tensor, power: float) -> Tensor:
    """t (M, H, K) -> relu(t)^p at the length of relu(t), norms over the whole width."""
    u = t.clamp(min=0)
    sharp = u**power
    lengths = [a.flatten(1).norm(dim=1).clamp(min=torch.finfo(t.dtype).tiny)[:, None, None] for a in (u, sharp)]
    return sharp * (lengths[0] / lengths[1])


@torch.no_grad()
def measure(call: Call) -> list[dict[str, float | str]]:
    """Per kernel, head and power: the mean entropy of rows, also relative to log N, and the share of rows lowered.

    Nothing for a mechanism that has no queries and keys.
    """
    if not call.has_queries:
        return []
    q, k = signed(call)
    rows = choose_rows(torch.arange(len(q)), q.shape[1] * len(k) * q.element_size(), MATRIX_BYTES)
    lines: list[dict[str, float | str]] = []
    for kernel in KERNELS:
        first = None
        for power in POWERS:
            entropy = row_entropy(weights(kernel, power, q[rows], k))
            first = entropy if first is None else first
            for head, (before, after) in enumerate(zip(first, entropy, strict=True)):
                both = ~(before.isnan() | after.isnan())
                if both.any():
                    nats = float(after[both].mean())
                    lines.append(
                        {
                            "layer": call.layer,
                            "head": head,
                            "kernel": kernel,
                            "power": power,
                            "entropy_nats": nats,
                            "entropy_relative": nats / max(math.log(len(k)), 1e-12),
                            "rows_lowered": float((after[both] < before[both]).double().mean()),
                        }
                    )
    return lines
