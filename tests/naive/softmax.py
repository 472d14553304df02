"""Softmax as loops over queries and keys."""

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
