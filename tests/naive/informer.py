"""ProbSparse attention (Informer; Zhou et al. 2021, https://arxiv.org/abs/2012.07436) as loops over queries and keys.

Softmax attention for the Q queries of the largest max_s(q k_s) - sum_s(q k_s) / R over a sample of Q real keys; the
mean of v for all other queries. Q = factor * ceil(ln R), at least 1 and at most R.
"""

from math import ceil, log

import torch
from torch import Tensor

from naive import Row, Twin, average, heads, product


def mix(row: Row, h: int) -> Tensor:
    q, k, v = heads(row, h)
    real, keys = row.real, row.keys
    few = min(max(1, int(row.options["factor"]) * ceil(log(len(real)))), len(real))
    divisor = few if row.fault == "mean of the sample" else len(real)
    sparsity = {}
    for i in real:
        places = [int(draw) * len(real) // 2**31 for draw in row.parameters["sample"][:few, i]]
        scores = torch.stack([torch.dot(q[i], k[real[place]]) for place in places])
        sparsity[i] = (scores.max() - scores.sum() / divisor).item()
    chosen = sorted(real, key=lambda i: sparsity[i], reverse=row.fault != "least sparse")[:few]
    full, mean = average(real, keys, product(q, k), v), v[keys].mean(0)
    mean = 0 * mean if row.fault == "nothing for the others" else mean
    return torch.stack([full[n] if i in chosen else mean for n, i in enumerate(real)])


TWIN = Twin(
    mix=mix,
    loss=2.341638,
    specs=["informer", "informer:factor=1", "informer:factor=2,conv=3"],
    grids=["informer:factor=1"],
    faults={
        ("informer:factor=1", "padded"): ["no mask", "least sparse", "mean of the sample", "nothing for the others"],
    },
    parameters={"informer": 0},
    impossible=["informer:factor=0"],
    limit=("informer:factor=6", 1e-12),
)
