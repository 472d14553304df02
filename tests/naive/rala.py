"""RALA (Fan et al. 2025, https://arxiv.org/abs/2411.07635) as loops over queries and keys.

y_i = sum_j w_ij v_j / (sum_j w_ij + 1e-6 R), w_ij = f(q_i) . a_j f(k_j), f = elu + 1,
a_j = R softmax_j(mean_i f(q_i) . f(k_j) / sqrt K); features are rotated in the numerator, but not in the normaliser.
"""

from math import cos, sin, sqrt

import torch
from torch import Tensor

from naive import Row, Twin, heads


def mix(row: Row, h: int) -> Tensor:
    q, k, v = heads(row, h)
    q, k = (torch.where(t > 0, t + 1, torch.exp(t)) for t in (q, k))
    seen = list(range(len(q))) if row.fault == "mean of q over padding" else row.real
    mean = q[seen].mean(0)
    scale = 1.0 if row.fault == "no scale" else sqrt(q.shape[1])
    exponents = {j: torch.exp(torch.dot(mean, k[j]) / scale) for j in row.keys}
    count = len(row.real)
    keys = {j: k[j] * count * exponents[j] / sum(exponents.values()) for j in row.keys}
    keys = {j: k[j] for j in row.keys} if row.fault == "keys not weighed" else keys
    y = []
    for i in row.real:
        above = [turned(row, q[i], keys[j], i, j) for j in row.keys]
        below = sum(torch.dot(q[i], keys[j]) for j in row.keys) + 1e-6 * len(row.real)
        below = sum(above) if row.fault == "normaliser turned too" else below
        y.append(sum((w * v[j] for w, j in zip(above, row.keys, strict=True)), torch.zeros_like(v[0])) / below)
    return torch.stack(y)


def turned(row: Row, f: Tensor, g: Tensor, i: int, j: int) -> Tensor:
    """f . g with f rotated by the position of i and g by that of j, which is a rotation by their difference."""
    if not row.options["rotary"]:
        return torch.dot(f, g)
    grid = row.dims.grid
    distances = [i // grid[1] - j // grid[1], i % grid[1] - j % grid[1]] if grid else [i - j]
    planes = len(f) // 2 // len(distances)
    total = torch.zeros_like(f[0])
    for c in range(len(f) // 2):
        axis, plane = divmod(c, planes)
        angle = distances[axis] * 10_000.0 ** -(plane / max(planes - 1, 1))
        (a, b), (x, y) = f[2 * c : 2 * c + 2], g[2 * c : 2 * c + 2]
        total = total + (a * x + b * y) * cos(angle) + (a * y - b * x) * sin(angle)
    return total


TWIN = Twin(
    mix=mix,
    loss=2.331849,
    specs=["rala", "rala:conv=0,rotary=false"],
    grids=["rala"],
    faults={
        ("rala", "padded"): [
            "no mask",
            "mask v instead of k",
            "mean of q over padding",
            "keys not weighed",
            "normaliser turned too",
            "no scale",
            "gate on the mix only",
            "convolution sees padding",
        ],
    },
    parameters={"rala": 64**2 + 64 + 6 * 64},
    grid_parameters={"rala": 64**2 + 64 + 26 * 64},
    impossible=["rala:conv=4"],
)
