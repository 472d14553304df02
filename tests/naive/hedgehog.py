"""Hedgehog (Zhang et al. 2024, https://arxiv.org/abs/2402.04347) as loops over queries and keys.

y_i = sum_j w_ij v_j / (sum_j w_ij + 1e-6), w_ij = f(q_i) . f(k_j), f(t) = [softmax(t W) | softmax(-t W)], W per head,
one for q and one for k.
"""

import torch
from torch import Tensor

from naive import Row, Twin, average, heads


def mix(row: Row, h: int) -> Tensor:
    q, k, v = heads(row, h)
    q = q @ row.parameters["keys" if row.fault == "one map for both" else "queries"][h]
    k = k @ row.parameters["keys"][h]

    def spread(t: Tensor) -> Tensor:
        other = t if row.fault == "no negative half" else -t
        return torch.cat((torch.softmax(t, 0), torch.softmax(other, 0)))

    return average(row.real, row.keys, lambda i, j: torch.dot(spread(q[i]), spread(k[j])), v, 1e-6)


TWIN = Twin(
    mix=mix,
    loss=2.339928,
    specs=["hedgehog:conv=3"],
    faults={("hedgehog", "padded"): ["no mask", "one map for both", "no negative half"]},
    parameters={"hedgehog": 2 * 2 * 32**2},
)
