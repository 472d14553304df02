"""Performer as loops over queries and keys."""

from math import sqrt

import torch
from torch import Tensor

from naive import Row, Twin, average, heads


def mix(row: Row, h: int) -> Tensor:
    q, k, v = heads(row, h)
    w, width = row.parameters["directions"], q.shape[1]
    scale = sqrt(width) if row.fault == "scaled twice" else width**0.25
    seen = {"q": q / scale @ w.T, "k": k / scale @ w.T}
    if row.options["kernel"] == "relu":
        features = {name: (t.clamp(min=0)) / sqrt(len(w)) + 1e-3 for name, t in seen.items()}
    else:
        for name, t in (("q", q), ("k", k)):
            half = (t / scale).square().sum(1, keepdim=True) / 2
            seen[name] = seen[name] - (0 if row.fault == "no length" else half)
        top = seen["k"][row.keys].max()
        features = {
            "q": (torch.exp(seen["q"] - seen["q"].max(1, keepdim=True).values) + 1e-6) / sqrt(len(w)),
            "k": (torch.exp(seen["k"] - top) + 1e-6) / sqrt(len(w)),
        }
    return average(row.real, row.keys, lambda i, j: torch.dot(features["q"][i], features["k"][j]), v)


TWIN = Twin(
    mix=mix,
    loss=2.334081,
    specs=["performer:features=20", "performer:features=9,kernel=relu,conv=3"],
    faults={("performer:features=20", "padded"): ["no mask", "mask v instead of k", "scaled twice", "no length"]},
    parameters={"performer": 0},
    impossible=["performer:features=0", "performer:kernel=cosine"],
)
