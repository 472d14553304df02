"""Gaussian attention (Skyformer; Chen et al. 2021, https://arxiv.org/abs/2111.00035) as loops over queries and keys.

y_i = sum_j exp(-|q_i - k_j|^2 / (2 sqrt K)) v_j, without a normaliser.
"""

from math import sqrt

import torch
from torch import Tensor

from naive import Row, Twin, heads


def mix(row: Row, h: int) -> Tensor:
    q, k, v = heads(row, h)
    width = q.shape[1] if row.fault == "temperature K" else sqrt(q.shape[1])
    y = []
    for i in row.real:
        total, mass = torch.zeros_like(v[0]), torch.zeros_like(v[0, 0])
        for j in row.keys:
            distance = (q[i] - k[j]).square().sum()
            w = torch.exp(-distance / width / (1 if row.fault == "no half" else 2))
            total, mass = total + w * v[j], mass + w
        y.append(total / mass if row.fault == "normalised" else total)
    return torch.stack(y)


TWIN = Twin(
    mix=mix,
    loss=2.324335,
    specs=["kernelized", "kernelized:conv=3"],
    faults={("kernelized", "padded"): ["no mask", "temperature K", "no half", "normalised"]},
    inputs=["kernelized"],
    parameters={"kernelized": 0},
)
