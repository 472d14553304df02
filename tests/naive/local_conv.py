"""Convolution (control): y = out(conv(v)), without any attention; `naive.finish` adds the convolution."""

import torch
from torch import Tensor

from naive import Row, Twin


def mix(row: Row, h: int) -> Tensor:
    return torch.zeros_like(row.head(row.v, h)[row.real])


TWIN = Twin(
    mix=mix,
    loss=2.340027,
    specs=["local_conv"],
    grids=["local_conv:conv=3"],
    faults={("local_conv", "padded"): ["convolution sees padding"]},
    parameters={"local_conv": 32 * (5 + 1)},
    grid_parameters={"local_conv:conv=3": 32 * 10},
    impossible=["local_conv:conv=0"],
)
