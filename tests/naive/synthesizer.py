"""Synthesizer (Tay et al. 2021, https://arxiv.org/abs/2005.00743) as loops over pairs of positions.

y_i = sum_j softmax_j(S_ij) v_j: S_ij = R_ij (random), W2_j relu(q_i) + b_j (dense), or a mix of both; `dot` adds
q_i k_j / sqrt K to R_ij.
"""

from dataclasses import replace
from math import sqrt

import torch
from torch import Tensor

from naive import Row, Twin, average, finish, project


def whole(row: Row) -> Tensor:
    p, kind, width = row.parameters, row.options["kind"], row.dims.dim
    parts = project(p, "qkv", row.x).split(width, dim=1)
    q, k, v = parts[0], parts[len(parts) // 2], parts[-1]

    def random(h: int, i: int, j: int) -> Tensor:
        i, j = (j, i) if row.fault == "transposed" else (i, j)
        return p["right"][h, i, j] if "left" not in p else torch.dot(p["left"][h, :, i], p["right"][h, :, j])

    def dense(h: int, i: int, j: int) -> Tensor:
        hidden = row.head(q, h)[i]
        hidden = hidden if row.fault == "no relu" else hidden.clamp(min=0)
        return torch.dot(p["scores.weight"][j], hidden) + (0 if row.fault == "no bias" else p["scores.bias"][j])

    def score(h: int, i: int, j: int) -> Tensor:
        if row.options["dot"]:
            product = torch.dot(row.head(q, h)[i], row.head(k, h)[j])
            return random(h, i, j) + product / (1 if row.fault == "no temperature" else sqrt(width // row.dims.heads))
        if kind != "mix":
            return {"random": random, "dense": dense}[kind](h, i, j)
        a = 1 / (1 + torch.exp(-p["balance"][0]))
        a = 1 - a if row.fault == "balance reversed" else a
        return (1 - a) * dense(h, i, j) + a * random(h, i, j)

    y = [
        average(row.real, row.keys, lambda i, j, h=h: torch.exp(score(h, i, j)), row.head(v, h))
        for h in range(row.dims.heads)
    ]
    return finish(replace(row, v=v), torch.cat(y, dim=1), convolved=True)


TWIN = Twin(
    whole=whole,
    loss=2.34717,
    specs=[
        "synthesizer",
        "synthesizer:rank=3,conv=3",
        "synthesizer:kind=dense",
        "synthesizer:kind=mix",
        "synthesizer:dot=true",
    ],
    faults={
        ("synthesizer", "padded"): ["no mask", "transposed"],
        ("synthesizer:kind=dense", "padded"): ["no mask", "no relu", "no bias"],
        ("synthesizer:kind=mix", "padded"): ["no mask", "balance reversed"],
        ("synthesizer:dot=true", "padded"): ["no mask", "no temperature"],
    },
    parameters={
        "synthesizer": 2 * 128**2 - 2 * (64**2 + 64),
        "synthesizer:rank=4": 2 * 2 * 128 * 4 - 2 * (64**2 + 64),
        "synthesizer:dot=true": 2 * 128**2,
        "synthesizer:kind=dense": 32 * 128 + 128 - (64**2 + 64),
        "synthesizer:kind=mix": 2 * 128**2 + 32 * 128 + 128 + 1 - (64**2 + 64),
    },
    impossible=[
        "synthesizer:kind=sparse",
        "synthesizer:rank=-1",
        "synthesizer:rank=2,kind=dense",
        "synthesizer:dot=true,kind=mix",
    ],
)
