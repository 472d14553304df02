"""Sinkhorn attention (Tay et al. 2020, https://arxiv.org/abs/2002.11296) as loops over queries, keys and blocks.

softmax(q [k | k']^T / sqrt K) [v | v'] within a block, k'_c = sum_d R_cd k_d. R starts as
exp(W sum k_c / temperature); `iterations` times, its rows and then its columns are divided by their sums.
"""

from math import sqrt

import torch
from torch import Tensor

from naive import Row, Twin, heads


def mix(row: Row, h: int) -> Tensor:
    q, k, v = heads(row, h)
    size, width, fault = int(row.options["block"]), q.shape[1], row.fault
    looked_at = row.keys
    holding = sorted({j // size for j in looked_at})
    # r[c, d]: the share of block d that is sorted to block c
    r = torch.ones(len(holding), len(holding), dtype=q.dtype)
    if "sort" in row.parameters:
        sums = torch.stack([sum((k[j] for j in looked_at if j // size == c), 0 * k[0]) for c in holding])
        temperature = 1.0 if fault == "no temperature" else float(row.options["temperature"])
        r = torch.exp(sums @ row.parameters["sort"][h][:, holding] / temperature)
        for _ in range(int(row.options["iterations"])):
            for axis in (0, 1) if fault == "columns first" else (1, 0):
                r = r / r.sum(axis, keepdim=True)
    r = r.T if fault == "sorted the other way" else r
    y = []
    for i in row.real:
        c, numerator, denominator = holding.index(i // size), v.new_zeros(width), v.new_zeros(1)
        for j in (j for j in looked_at if j // size == i // size):
            w = torch.exp(torch.dot(q[i], k[j]) / sqrt(width))
            numerator, denominator = numerator + w * v[j], denominator + w
        for place in range(size):
            parts = [(d, block * size + place) for d, block in enumerate(holding)]
            parts = [(d, j) for d, j in parts if j in looked_at]
            if not parts or fault == "no sorted block":
                continue
            share = sum(r[c, d] for d, _ in parts) / r[c].sum()
            share = v.new_ones(1) if fault == "padding fills a place" else share
            key, value = (sum(r[c, d] * t[j] for d, j in parts) / share for t in (k, v))
            w = share * torch.exp(torch.dot(q[i], key) / sqrt(width))
            numerator, denominator = numerator + w * value, denominator + w
        y.append(numerator / denominator)
    return torch.stack(y)


TWIN = Twin(
    mix=mix,
    loss=2.341548,
    specs=["sinkhorn", "sinkhorn:block=3", "sinkhorn:block=2,iterations=2,temperature=1.5,conv=3"],
    grids=["sinkhorn:block=3"],
    faults={
        ("sinkhorn:block=3", "padded"): [
            "no mask",
            "no temperature",
            "columns first",
            "sorted the other way",
            "no sorted block",
            "padding fills a place",
        ]
    },
    parameters={"sinkhorn": 64 * 3, "sinkhorn:block=128": 0},
    impossible=["sinkhorn:block=0", "sinkhorn:iterations=0", "sinkhorn:temperature=0"],
    limit=("sinkhorn:block=16", 1e-12),
)
