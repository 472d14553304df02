"""Linformer (Wang et al. 2020, https://arxiv.org/abs/2006.04768, equation 7) as loops over queries and rows of E and F.

y_i = sum_r softmax_r(q_i (E k)_r / sqrt K) (F v)_r, with E k and F v summed over real tokens.
"""

from math import sqrt

import torch
from torch import Tensor, nn

from attention_zoo import Attention
from naive import Row, Twin, average, heads


def mix(row: Row, h: int) -> Tensor:
    q, k, v = heads(row, h)
    e = row.parameters["keys"]
    f = row.parameters.get("values", e)
    keys = torch.stack([sum((e[r, j] * k[j] for j in row.keys), torch.zeros_like(k[0])) for r in range(len(e))])
    values = torch.stack([sum((f[r, j] * v[j] for j in row.keys), torch.zeros_like(v[0])) for r in range(len(e))])
    scale = 1.0 if row.fault == "no scale" else sqrt(q.shape[1])
    return average(row.real, range(len(e)), lambda i, r: torch.exp(torch.dot(q[i], keys[r]) / scale), values)


def identity_projection(module: Attention) -> None:
    nn.init.eye_(module.get_parameter("keys"))


TWIN = Twin(
    mix=mix,
    loss=2.376998,
    specs=["linformer:rank=5", "linformer:rank=3,share=false"],
    faults={("linformer:rank=5", "padded"): ["no mask", "no scale"]},
    parameters={"linformer": 128 * 128, "linformer:rank=8,share=false": 2 * 8 * 128},
    impossible=["linformer:rank=0"],
    limit=("linformer:rank=16", 1e-12),
    prepare_limit=identity_projection,
)
