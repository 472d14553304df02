"""S4D in both directions (Gu et al. 2022, https://arxiv.org/abs/2206.11893) as loops over pairs of tokens.

y = GLU(out(gelu(h * x + d x))): (h * x)_i sums h(i - j) x_j over j <= i and h'(j - i - 1) x_j over j > i, where
h(t) = 2 Re sum_n c_n (exp(a_n step) - 1) / a_n exp(a_n step t) and h' has other c.
"""

from math import sqrt

import torch
from torch import Tensor

from naive import Row, Twin, project


def mix(row: Row) -> Tensor:
    p, width = row.parameters, row.dims.dim
    step = torch.exp(p["log_step"])
    a = torch.complex(-torch.exp(p["log_decay"]), p["frequency"])
    held = (torch.exp(a * step) - 1) / a
    held = step * torch.ones_like(a) if row.fault == "Euler" else held
    mixtures = torch.complex(p["mixture"][..., 0], p["mixture"][..., 1]) * held

    def h(c: Tensor, t: int) -> Tensor:
        return 2 * (c * torch.exp(a * step * t)).sum(1).real

    y = []
    for i in row.real:
        total = p["skip"] * row.x[i]
        for j in row.real:
            if j <= i:
                total = total + h(mixtures[0], i - j) * row.x[j]
            elif row.fault != "causal":
                total = total + h(mixtures[1], j - i - (row.fault != "lag from one")) * row.x[j]
        y.append(total)
    mixed = torch.stack(y)
    mixed = mixed * (1 + torch.erf(mixed / sqrt(2))) / 2
    value, gate = project(p, "out", mixed).split(width, 1)
    return value * torch.sigmoid(gate)


TWIN = Twin(
    whole=mix,
    loss=2.315699,
    specs=["s4d:state=6"],
    grids=["s4d:state=4"],
    faults={("s4d:state=6", "padded"): ["causal", "Euler", "lag from one"]},
    parameters={"s4d": 64 * (3 * 64 + 2 * 64 + 4) - (4 * 64**2 + 4 * 64)},
    impossible=["s4d:state=5"],
)
