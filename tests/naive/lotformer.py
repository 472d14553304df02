"""LOTFormer (Shahbazi et al. 2025, https://arxiv.org/abs/2509.23436), with plans on the real tokens only.

y_i = R sum_m P_mi / a_m sum_j Q_mj v_j, over pivots m of masses a: P is the `plan` from the pivots to q, Q that to k.
"""

from math import sqrt

import torch
from torch import Tensor

from naive import Row, Twin, heads


def mix(row: Row, h: int) -> Tensor:
    q, k, v = heads(row, h)
    z, tokens = row.parameters["pivots"][h], row.keys
    masses = torch.ones_like(z[:, 0]) / len(z)
    if row.options["learned"]:
        masses = torch.exp(2 * row.parameters["masses"][h, :, 0])
        masses = masses / masses.sum()
    first = row.fault == "the same turns for q and k"
    to_queries, to_keys = plan(row, z, q[tokens], masses, True), plan(row, z, k[tokens], masses, first)
    count = len(row.x) if row.fault == "count of the padded length" else len(row.real)
    weights = masses if row.options["shrunk"] != (row.fault == "shrunk") else 1 / masses
    y = []
    for i in row.real:
        total = torch.zeros_like(v[0])
        for m in range(len(z)):
            for n, j in enumerate(tokens):
                total = total + count * weights[m] * to_queries[m, tokens.index(i)] * to_keys[m, n] * v[j]
        y.append(total)
    return torch.stack(y)


def plan(row: Row, z: Tensor, t: Tensor, masses: Tensor, tokens_first: bool) -> Tensor:
    """z (M, K), t (R, K), masses (M,) -> plan (M, R) from exp(clamp(z t^T / sqrt K, -50, 50) / eps).

    In each of `iterations` updates, columns are scaled to sum to 1 / R, or rows to sum to the masses, in turn.
    tokens_first: columns first.
    """
    scores = (z @ t.T / sqrt(t.shape[1])).clamp(-50, 50) / row.options["eps"]
    mass = torch.exp(scores - scores.max())
    updates = int(row.options["iterations"]) - (row.fault == "an update too few")
    for update in range(updates):
        if (update % 2 == 0) == tokens_first:
            mass = torch.stack([column / column.sum() for column in mass.T], dim=1) / len(t)
        else:
            mass = torch.stack([a * line / line.sum() for a, line in zip(masses, mass, strict=True)])
    return mass


TWIN = Twin(
    mix=mix,
    loss=2.339063,
    specs=[
        "lotformer:pivots=3,eps=1,iterations=6",
        "lotformer:pivots=5,eps=25,iterations=5,shrunk=true,learned=true,conv=3",
    ],
    grids=["lotformer:pivots=4,eps=0.3,iterations=3,learned=true"],
    faults={
        ("lotformer:pivots=3,eps=1,iterations=4", "padded"): [
            "no mask",
            "count of the padded length",
            "shrunk",
            "an update too few",
            "the same turns for q and k",
        ]
    },
    parameters={"lotformer": 32 * 64, "lotformer:learned=true": 32 * 64 + 64},
    impossible=["lotformer:pivots=0", "lotformer:iterations=0", "lotformer:eps=0"],
)
