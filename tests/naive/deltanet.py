"""The delta rule (DeltaNet; Yang et al. 2024, https://arxiv.org/abs/2406.06484) as a loop over tokens from each end.

S_i = S_(i-1) + b_i k_i^T (v_i - k_i S_(i-1)); S' runs from the last token to the first, with its own b.
y = out(norm((q_i S_i + q_i S'_i) / (2 sqrt K)) + conv(v)). q and k are divided by their norms.
"""

from dataclasses import replace
from math import sqrt

import torch
from torch import Tensor

from naive import Row, Twin, convolve, project


def mix(row: Row) -> Tensor:
    p, dims, fault = row.parameters, row.dims, row.fault
    short = shorten(project(p, "qkv", row.x), p["short.weight"][:, 0], row) if row.options["short_conv"] else None
    activated = (lambda t: t * torch.sigmoid(t))(project(p, "qkv", row.x) if short is None else short)
    row = replace(row, **dict(zip("qkv", activated.split(dims.dim, 1), strict=True)))
    strengths = torch.sigmoid(row.x @ p["beta.weight"].T).split(dims.heads, 1)
    width = dims.dim // dims.heads
    mixes = []
    for h in range(dims.heads):
        q, k, v = unit(row.head(row.q, h)), unit(row.head(row.k, h)), row.head(row.v, h)
        k = row.head(row.k, h) if fault == "keys of any length" else k
        seen = {i: torch.zeros_like(v[0]) for i in row.keys}
        for strength, order in zip(strengths, (1, -1), strict=True):
            state = v.new_zeros(width, width)
            for i in row.keys[::order]:
                known = 0 * v[i] if fault == "nothing erased" else k[i] @ state
                before, state = state, state + strength[i, h] * torch.outer(k[i], v[i] - known)
                seen[i] = seen[i] + q[i] @ (before if fault == "without itself" else state) / sqrt(width) / 2
        mixed = torch.stack([seen[i] for i in row.real])
        mixes.append(mixed / torch.sqrt(mixed.square().mean(1, keepdim=True) + 1e-5) * p["norm.weight"])
    y = torch.cat(mixes, 1)
    return project(p, "out", y + convolve(row) if row.options["conv"] else y)


def shorten(t: Tensor, kernel: Tensor, row: Row) -> Tensor:
    """t (N, 3 D), kernel (3 D, taps) -> (N, 3 D): a depthwise convolution, centred, zeros outside and at padding."""
    y, taps = torch.zeros_like(t), kernel.shape[1]
    for i in range(len(t)):
        for tap in range(taps):
            j = i + tap - (taps - 1 if row.fault == "convolution looks back" else taps // 2)
            if 0 <= j < len(t) and (j in row.real or row.fault == "convolution of padding"):
                y[i] = y[i] + kernel[:, tap] * t[j]
    return y


def unit(t: Tensor) -> Tensor:
    return t / torch.sqrt(t.square().sum(1, keepdim=True) + 1e-6)


TWIN = Twin(
    whole=mix,
    loss=2.307849,
    specs=["deltanet:short_conv=3", "deltanet:short_conv=0,conv=3"],
    grids=["deltanet:conv=3"],
    faults={
        ("deltanet:short_conv=3", "padded"): [
            "no mask",
            "nothing erased",
            "without itself",
            "keys of any length",
            "convolution looks back",
            "convolution of padding",
        ],
    },
    further={"6 x 9, second layer": ["deltanet:short_conv=3"]},
    parameters={"deltanet": 3 * 64 * 7 + 64 * 4 + 32, "deltanet:short_conv=0": 64 * 4 + 32},
    impossible=["deltanet:short_conv=4", "deltanet:short_conv=-1"],
)
