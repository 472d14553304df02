"""cosFormer (Qin et al. 2022, https://arxiv.org/abs/2202.08791) as loops over queries and keys.

w_ij = relu(q_i) . relu(k_j) cos(pi (i - j) / (2 M)), M the position of the last real token, counted from 1;
y_i = sum_j w_ij v_j / (sum_j w_ij + 1e-6).
"""

from math import cos, pi

import torch
from torch import Tensor

from naive import Row, Twin, average, heads


def mix(row: Row, h: int) -> Tensor:
    q, k, v = heads(row, h)
    q, k = q.clamp(min=0), k.clamp(min=0)
    length = len(q) if row.fault == "padded length" else max(row.real) + 1
    turn = pi / length if row.fault == "half a turn" else pi / (2 * length)
    return average(row.real, row.keys, lambda i, j: torch.dot(q[i], k[j]) * cos(turn * (i - j)), v, 1e-6)


TWIN = Twin(
    mix=mix,
    loss=2.341063,
    specs=["cosformer"],
    faults={("cosformer", "padded"): ["no mask", "mask v instead of k", "padded length", "half a turn"]},
    parameters={"cosformer": 0},
)
