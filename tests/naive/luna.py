"""Luna (Ma et al. 2021, https://arxiv.org/abs/2106.01540) as loops over tokens and rows of the memory p.

packed = softmax(pack(p) k^T / sqrt K) v, y = softmax(q k'^T / sqrt K) v' with [k' | v'] = unpack(packed).
"""

from math import sqrt

import torch
from torch import Tensor

from naive import Row, Twin, average, heads, product, project


def mix(row: Row, h: int) -> Tensor:
    p, memory = row.parameters, row.parameters["memory"]
    asks = memory if row.fault == "memory not projected" else project(p, "pack", memory)
    places = range(len(memory))
    packed = []
    for n in range(row.dims.heads):
        _, k, v = heads(row, n)
        packed.append(average(places, row.keys, product(row.head(asks, n), k), v))
    keys, values = project(p, "unpack", torch.cat(packed, dim=1)).split(row.dims.dim, dim=1)
    keys, values = row.head(keys, h), row.head(keys if row.fault == "tied" else values, h)
    q = row.head(row.q, h)
    scale = sqrt(q.shape[1]) if row.fault == "no scale" else 1
    return average(row.real, places, product(q * scale, keys), values)


TWIN = Twin(
    mix=mix,
    loss=2.397464,
    specs=["luna:memory=3", "luna:memory=1,conv=3"],
    grids=["luna:memory=5"],
    faults={("luna:memory=3", "padded"): ["no mask", "memory not projected", "tied", "no scale"]},
    parameters={"luna:memory=5": 5 * 64 + 3 * 64**2 + 3 * 64},
    impossible=["luna:memory=0"],
)
