"""Scaled dot-product attention (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762) as loops.

y_i = sum_j softmax_j(q_i k_j / sqrt K) v_j.
"""

from math import sqrt

import torch
from torch import Tensor

from naive import Row, Twin, average


def mix(row: Row, h: int) -> Tensor:
    q, k = row.head(row.q, h), row.head(row.k, h)
    scale = 1.0 if row.fault == "no scale" else sqrt(q.shape[1])
    return average(row.real, row.keys, lambda i, j: torch.exp(torch.dot(q[i], k[j]) / scale), row.head(row.v, h))


TWIN = Twin(
    mix=mix,
    loss=2.341638,
    specs=["softmax", "softmax:conv=3"],
    grids=["softmax:conv=3"],
    faults={
        ("softmax:conv=3", "padded"): ["no mask", "no scale", "heads interleaved", "kernel reversed"],
        ("softmax:conv=5", "padded"): ["convolution sees padding"],
        ("softmax:conv=3", "3 x 4, padded"): ["convolution sees padding", "kernel reversed"],
    },
    inputs=["softmax"],
)
