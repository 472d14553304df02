"""Taylor exp (Arora et al. 2024, Based, https://arxiv.org/abs/2402.18668) as loops over queries and keys.

y_i = sum_j w_ij v_j / sum_j w_ij, w_ij = 1 + s + s^2 / 2, s = q_i k_j / sqrt K.
"""

from math import sqrt

import torch
from torch import Tensor

from naive import Row, Twin, average, heads


def mix(row: Row, h: int) -> Tensor:
    q, k, v = heads(row, h)

    def weight(i: int, j: int) -> Tensor:
        s = torch.dot(q[i], k[j]) / sqrt(q.shape[1])
        return 1 + s + s**2 / (1 if row.fault == "no half" else 2)

    return average(row.real, row.keys, weight, v)


TWIN = Twin(
    mix=mix,
    loss=2.341691,
    specs=["taylor"],
    faults={("taylor", "padded"): ["no mask", "no half"]},
    parameters={"taylor": 0},
)
