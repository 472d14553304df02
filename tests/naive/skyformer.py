"""Skyformer (Chen et al. 2021, https://arxiv.org/abs/2111.00035) as loops over tokens and landmarks.

y = C(q, z) (C(z, z) + regulariser I)^-1 C(z, k) v, C(a, b) = exp(-|a - b|^2 / (2 sqrt K)), z some tokens of q and of k.
The inverse is iterated as in `nystrom`, on the matrix divided by the roots of its row sums on both sides.
"""

from math import sqrt

import torch
from torch import Tensor

from naive import Row, Twin, heads


def mix(row: Row, h: int) -> Tensor:
    q, k, v = heads(row, h)
    seen = list(range(len(q))) if row.fault == "landmarks in padding" else row.real
    from_q, from_k = ([seen[int(n) * len(seen) // 2**31] for n in tickets] for tickets in row.parameters["tickets"])
    z = q[from_q + from_k] if row.fault == "landmarks of q alone" else torch.cat((q[from_q], k[from_k]))

    def kernel(left: Tensor, right: Tensor) -> Tensor:
        rows = [[torch.exp(-(a - b).square().sum() / (2 * sqrt(q.shape[1]))) for b in right] for a in left]
        return torch.stack([torch.stack(row) for row in rows])

    one = torch.eye(len(z), dtype=q.dtype)
    core = kernel(z, z) + (0 if row.fault == "no regulariser" else row.options["regulariser"]) * one
    degree = torch.diag(torch.ones(len(z), dtype=q.dtype) if row.fault == "not scaled" else core.sum(1) ** -0.5)
    core = degree @ core @ degree
    inverse = core.T / core.sum(0).max()
    for _ in range(int(row.options["iterations"])):
        inverse = inverse @ (13 * one - core @ inverse @ (15 * one - core @ inverse @ (7 * one - core @ inverse))) / 4
    summary = kernel(z, k[row.keys]) @ v[row.keys]
    return kernel(q[row.real], z) @ degree @ inverse @ degree @ summary


TWIN = Twin(
    mix=mix,
    loss=2.324954,
    specs=["skyformer:landmarks=6", "skyformer:landmarks=10,regulariser=0.01,iterations=3,conv=3"],
    grids=["skyformer:landmarks=4"],
    faults={
        ("skyformer:landmarks=6", "padded"): [
            "no mask",
            "landmarks in padding",
            "landmarks of q alone",
            "no regulariser",
        ],
        ("skyformer:landmarks=6,iterations=2", "padded"): ["not scaled"],
    },
    parameters={"skyformer": 0},
    impossible=[
        "skyformer:landmarks=5",
        "skyformer:landmarks=0",
        "skyformer:regulariser=-1",
        "skyformer:iterations=-1",
    ],
)
