"""Performer (Choromanski et al. 2021, https://arxiv.org/abs/2009.14794) as loops over queries and keys.

y_i = sum_j w_ij v_j / sum_j w_ij, w_ij = f(q_i) . f(k_j), f(t) = (exp(W t' - |t'|^2 / 2 - top) + eps) / sqrt F,
t' = t / K^(1/4); top is the maximum of the exponents or of W t', one for each query and one for all keys.
"""

from math import sqrt

import torch
from torch import Tensor

from naive import Row, Twin, average, heads


def mix(row: Row, h: int) -> Tensor:
    q, k, v = heads(row, h)
    w, width, options = row.parameters["directions"], q.shape[1], row.options
    twice = options["scaled_twice"] != (row.fault == "scaled twice")
    scale = sqrt(width) if twice else width**0.25
    seen = {"q": q / scale @ w.T, "k": k / scale @ w.T}
    if options["kernel"] == "relu":
        features = {name: (t.clamp(min=0)) / sqrt(len(w)) + 1e-3 for name, t in seen.items()}
        return average(row.real, row.keys, lambda i, j: torch.dot(features["q"][i], features["k"][j]), v)
    whole, eps = options["stabiliser"] == "exponent", 1e-4 if options["stabiliser"] == "port" else 1e-6
    half = {name: (t / scale).square().sum(1, keepdim=True) / 2 for name, t in (("q", q), ("k", k))}
    half = {name: 0 * t if row.fault == "no length" else t for name, t in half.items()}
    tops = {name: seen[name] - half[name] if whole else seen[name] for name in ("q", "k")}
    padding = row.dims.length - len(row.real) if options["padding_counts"] else 0
    top = tops["k"][row.keys].max()
    top = top.clamp(min=0) if padding else top
    features = {
        "q": (torch.exp(seen["q"] - half["q"] - tops["q"].max(1, keepdim=True).values) + eps) / sqrt(len(w)),
        "k": (torch.exp(seen["k"] - half["k"] - top) + eps) / sqrt(len(w)),
    }
    zeros = ((torch.exp(-top) + eps) / sqrt(len(w))).expand(padding, len(w))
    keys, values = torch.cat([features["k"], zeros]), torch.cat([v, v.new_zeros(padding, v.shape[1])])
    looked_at = [*row.keys, *range(len(q), len(q) + padding)]
    return average(row.real, looked_at, lambda i, j: torch.dot(features["q"][i], keys[j]), values)


TWIN = Twin(
    mix=mix,
    loss=2.334081,
    specs=[
        "performer:features=20",
        "performer:features=9,kernel=relu,conv=3",
        "performer:features=7,stabiliser=authors",
        "performer:features=7,stabiliser=port,scaled_twice=true,padding_counts=true",
        "performer:features=7,padding_counts=true",
    ],
    faults={("performer:features=20", "padded"): ["no mask", "mask v instead of k", "scaled twice", "no length"]},
    parameters={"performer": 0},
    impossible=[
        "performer:features=0",
        "performer:kernel=cosine",
        "performer:stabiliser=none",
        "performer:kernel=relu,scaled_twice=true",
    ],
)
