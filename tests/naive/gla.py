"""Gated linear attention (GLA; Yang et al. 2024, https://arxiv.org/abs/2312.06635), a loop over tokens from each end.

S_i = a_i S_(i-1) + k_i^T v_i with a_i = sigmoid(forget(x_i))^(1 / smooth); S' runs from the last token to the first,
with its own a. y = out(silu(gate(x)) * (norm((q_i S_i + q_i S'_i) / (2 sqrt K)) + conv(v))).
"""

from dataclasses import replace
from math import sqrt

import torch
from torch import Tensor

from naive import Row, Twin, convolve, project


def mix(row: Row) -> Tensor:
    p, dims, options, fault = row.parameters, row.dims, row.options, row.fault
    row = replace(row, **dict(zip("qkv", project(p, "qkv", row.x).split(dims.dim, 1), strict=True)))
    opened = torch.sigmoid(row.x @ p["forget.0.weight"].T @ p["forget.1.weight"].T + p["forget.1.bias"])
    gates = (opened if fault == "gates not smoothed" else opened ** (1 / options["smooth"])).split(dims.dim, 1)
    gates = (gates[0], gates[0]) if fault == "one gate for both ways" else gates
    width = dims.dim // dims.heads
    mixes = []
    for h in range(dims.heads):
        q, k, v = row.head(row.q, h), row.head(row.k, h), row.head(row.v, h)
        seen = {i: torch.zeros_like(v[0]) for i in range(len(row.x))}
        for gate, order in zip(gates, (1, -1), strict=True):
            state = v.new_zeros(width, width)
            for i in range(len(row.x))[::order]:
                if i in row.keys or fault == "padding decays":
                    state = row.head(gate, h)[i][:, None] * state
                if i in row.keys:
                    written = torch.outer(k[i], v[i])
                    before, state = state, state + written
                    shown = before if fault == "itself once" and order == -1 else state
                    seen[i] = seen[i] + q[i] @ shown / sqrt(width) / 2
        mixed = torch.stack([seen[i] for i in row.real])
        size = torch.sqrt(mixed.square().mean(1, keepdim=True) + 1e-5)
        mixes.append(mixed / size * p["norm.weight"])
    y = torch.cat(mixes, 1)
    y = y + convolve(row) if options["conv"] else y
    if options["gate"]:
        gate = project(p, "gate", row.x[row.real])
        y = y * (gate if fault == "gate without silu" else gate * torch.sigmoid(gate))
    return project(p, "out", y)


TWIN = Twin(
    whole=mix,
    loss=2.324181,
    specs=["gla:rank=3", "gla:rank=2,smooth=2,gate=false,conv=3"],
    grids=["gla:rank=3,conv=3"],
    faults={
        ("gla:rank=3", "padded"): [
            "no mask",
            "gates not smoothed",
            "one gate for both ways",
            "itself once",
            "gate without silu",
        ],
        ("gla:rank=3", "scattered"): ["padding decays"],
    },
    further={"6 x 9, second layer": ["gla:rank=3"]},
    parameters={"gla": 3 * 64 * 16 + 2 * 64 + 32 + 64**2 + 64, "gla:rank=4,gate=false": 3 * 64 * 4 + 2 * 64 + 32},
    impossible=["gla:rank=0", "gla:smooth=0"],
)
