"""Nyströmformer (Xiong et al. 2021, https://arxiv.org/abs/2102.03902) with kernels made row by row.

y = softmax(q b^T / sqrt K) Z softmax(a k^T / sqrt K) v and a convolution of v; a and b are means of q and k over
segments of the real tokens. Z inverts A = softmax(a b^T / sqrt K): Z <- Z (13 I - A Z (15 I - A Z (7 I - A Z))) / 4,
from A^T divided by its largest sum of a row and its largest sum of a column.
"""

from math import sqrt

import torch
from torch import Tensor

from naive import Row, Twin, heads


def mix(row: Row, h: int) -> Tensor:
    q, k, v = heads(row, h)
    count = min(int(row.options["landmarks"]), row.dims.length)
    seen = list(range(len(q))) if row.fault == "means over padding" else row.real
    parts = [seen[a * len(seen) // count : -(-(a + 1) * len(seen) // count)] for a in range(count)]
    a, b = (torch.stack([t[part].mean(0) for part in parts]) for t in (q, k))

    def kernel(left: Tensor, right: Tensor) -> Tensor:
        return torch.stack([torch.softmax(right @ query / sqrt(q.shape[1]), 0) for query in left])

    core, one = kernel(a, b), torch.eye(count, dtype=q.dtype)
    inverse = core.T / (core.abs().sum(1).max() * core.abs().sum(0).max())
    inverse = inverse / 2 if row.fault == "other start" else inverse
    for _ in range(int(row.options["iterations"])):
        z = core @ inverse
        inverse = inverse @ (13 * one - z @ (15 * one - z @ (7 * one - z))) / 4
    y = kernel(q[row.real], b) @ inverse @ kernel(a, k[row.keys]) @ v[row.keys]
    if not row.options["conv"]:
        return y
    taps = row.parameters["local.conv.weight"][h, 0, :, 0]
    for n, i in enumerate(row.real):
        for t in range(len(taps)):
            j = i + t - len(taps) // 2
            if j in row.real:
                y = y.index_add(0, torch.tensor([n]), taps[t] * v[j][None])
    return y


TWIN = Twin(
    mix=mix,
    loss=2.31812,
    specs=["nystrom:landmarks=4,conv=5", "nystrom:conv=0,iterations=3"],
    grids=["nystrom:landmarks=5,conv=3"],
    faults={
        ("nystrom:landmarks=4,conv=0", "padded"): ["no mask", "means over padding"],
        ("nystrom:landmarks=4,conv=0,iterations=2", "padded"): ["other start"],
    },
    common_convolution=False,
    parameters={"nystrom": 2 * 35},
    impossible=["nystrom:landmarks=0", "nystrom:conv=4"],
    limit=("nystrom:landmarks=16,conv=0,iterations=40", 1e-6),
)
