"""Longformer (Beltagy et al. 2020, https://arxiv.org/abs/2004.05150) as loops over queries and keys.

Softmax attention over |i - j| <= window / 2 and j < tokens; a global token, i < tokens, attends to every real token,
with q, k and v of separate projections.
"""

import torch
from torch import Tensor

from naive import Row, Twin, average, product, project, softmax_over


def mix(row: Row, h: int) -> Tensor:
    reach, tokens = int(row.options["window"]) // 2, int(row.options["tokens"])
    reach -= row.fault == "narrow window"
    blind = row.fault == "global tokens unseen"
    y = softmax_over(row, h, lambda i, j: abs(i - j) <= reach or (j < tokens and not blind))
    if tokens and row.fault != "one projection":
        width = row.dims.dim
        q, k, v = (row.head(t, h) for t in project(row.parameters, "global_qkv", row.x).split(width, dim=1))
        first = [i for i in row.real if i < tokens]
        if first:
            y = torch.cat((average(first, row.keys, product(q, k), v), y[len(first) :]))
    return y


TWIN = Twin(
    mix=mix,
    loss=2.341544,
    specs=["longformer", "longformer:window=4,tokens=2,conv=3", "longformer:window=6,tokens=0"],
    grids=["longformer:window=4"],
    faults={("longformer:window=4", "padded"): ["no mask", "narrow window", "one projection", "global tokens unseen"]},
    parameters={"longformer": 3 * 64**2 + 3 * 64, "longformer:tokens=0": 0},
    impossible=["longformer:window=3", "longformer:tokens=-1"],
    limit=("longformer:window=32,tokens=0", 1e-12),
)
