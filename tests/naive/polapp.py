"""PolaFormer++ (Meng et al. 2026, https://github.com/ZacharyMeng/PolaFormerPP) as loops over queries and keys.

w_ij = f(q_i) . f(k_j), f(k) = exp([k+ | k-]) - 1, f(q) = exp(sigmoid(s1) [q+ | q-]) - 1 for the first half of each
head's v and exp(sigmoid(s2) [q- | q+]) - 1 for the second. Features are rotated in the numerator sum_j w_ij v_j, but
not in the normaliser sum_j w_ij + 1e-6 R.
"""

from math import cos, sin

import torch
from torch import Tensor

from naive import Row, Twin, heads


def mix(row: Row, h: int) -> Tensor:
    q, k, v = heads(row, h)
    plus, minus = q.clamp(min=0), (-q).clamp(min=0)
    keys = torch.exp(torch.cat((k.clamp(min=0), (-k).clamp(min=0)), 1)) - 1
    grid, half, planes = row.dims.grid, q.shape[1] // 2, q.shape[1]
    per_axis = planes // 2 if grid else planes
    speeds = [10_000.0 ** -(c / max(per_axis - 1, 1)) for c in range(per_axis)]

    def turned(f: Tensor, g: Tensor, i: int, j: int) -> Tensor:
        """f . g with f rotated by the position of i and g by that of j, which is a rotation by their difference."""
        places = [(i // grid[1], j // grid[1]), (i % grid[1], j % grid[1])] if grid else [(i, j)]
        angles = [speed * (a - b) for a, b in places for speed in speeds]
        total = torch.zeros_like(f[0])
        for c, angle in enumerate(angles):
            f1, f2, g1, g2 = f[2 * c], f[2 * c + 1], g[2 * c], g[2 * c + 1]
            total = total + (f1 * g1 + f2 * g2) * cos(angle) + (f1 * g2 - f2 * g1) * sin(angle)
        return total

    names = ("opposite", "same") if row.fault == "temperatures swapped" else ("same", "opposite")
    flows = []
    for name, parts, values in zip(names, ((plus, minus), (minus, plus)), v.split(half, 1), strict=True):
        queries = torch.exp(torch.cat(parts, 1) * torch.sigmoid(row.parameters[name][h, 0])) - 1
        y = []
        for i in row.real:
            rotate = row.options["rotary"]
            top = [turned(queries[i], keys[j], i, j) if rotate else torch.dot(queries[i], keys[j]) for j in row.keys]
            below = sum(torch.dot(queries[i], keys[j]) for j in row.keys) + 1e-6 * len(row.real)
            below = sum(top) if row.fault == "normaliser turned too" else below
            y.append(sum((t * values[j] for t, j in zip(top, row.keys, strict=True)), 0 * values[0]) / below)
        flows.append(torch.stack(y))
    return torch.cat(flows, 1)


TWIN = Twin(
    mix=mix,
    loss=2.335848,
    specs=["polapp", "polapp:conv=0,rotary=false"],
    grids=["polapp:conv=3", "polapp:conv=0"],
    faults={
        ("polapp", "padded"): [
            "no mask",
            "mask v instead of k",
            "temperatures swapped",
            "normaliser turned too",
            "sigmoid gate",
            "gate on the mix only",
        ]
    },
    parameters={"polapp:conv=0": 4 * 64 + 64**2 + 64},
    overflows="rotated numerators are not bounded by a normaliser that is not rotated",
)
