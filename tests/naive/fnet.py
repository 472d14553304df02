"""FNet (Lee-Thorp et al. 2021, https://arxiv.org/abs/2105.03824) as a double sum over tokens and channels."""

from math import cos, pi, sqrt

import torch
from torch import Tensor

from naive import Row, Twin


def mix(row: Row) -> Tensor:
    """y_me = sum_nd x_nd cos(2 pi (n m / L + d e / D)) over real tokens n; divided by sqrt(L D) if `orthonormal`."""
    length, width = len(row.x) if row.fault == "padded length" else row.dims.length, row.dims.dim
    y = []
    for m in row.real:
        out = []
        for e in range(width):
            wave = [[cos(2 * pi * (n * m / length + d * e / width)) for d in range(width)] for n in row.real]
            out.append((row.x[row.real] * row.x.new_tensor(wave)).sum())
        y.append(torch.stack(out))
    return torch.stack(y) / (sqrt(length * width) if row.options["orthonormal"] else 1)


TWIN = Twin(
    whole=mix,
    loss=2.324007,
    specs=["fnet", "fnet:orthonormal=false"],
    grids=["fnet"],
    faults={("fnet", "padded"): ["padded length"]},
    parameters={"fnet": -(4 * 64**2 + 4 * 64)},
)
