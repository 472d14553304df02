"""Flowformer (Wu et al. 2022, https://arxiv.org/abs/2202.06258) as loops over sinks (queries) and sources (keys).

y_i = sigmoid(I'_i) sum_j f(q_i) . f(k_j) / I_i R softmax_j(min(O'_j, 1)) v_j, flows I, I' and O' as in `conserve`.
"""

import torch
from torch import Tensor

from naive import Row, Twin

EPS = 1e-6


def mix(row: Row, h: int) -> Tensor:
    flows = [conserve(row, head) for head in range(row.dims.heads)]
    q, k, incoming, sink, source = flows[h]
    v, count = row.head(row.v, h), len(row.x) if row.fault == "count of the padded length" else len(row.real)
    over_heads = (row.options["competition"] == "heads") != (row.fault == "softmax over the heads")
    y = []
    for i in row.real:
        total = torch.zeros_like(v[0])
        for j in row.keys:
            rivals = [flow[4][j] for flow in flows] if over_heads else [source[n] for n in row.keys]
            share = torch.exp(source[j]) / sum(torch.exp(rival) for rival in rivals)
            total = total + torch.dot(q[i], k[j]) / incoming[i] * share * count * v[j]
        y.append(torch.sigmoid(sink[i]) * total)
    return torch.stack(y)


def conserve(row: Row, h: int) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor], list[Tensor]]:
    """f(q), f(k) (N, K), and for each token I, I' and O'; f = sigmoid, or relu + 1e-6.

    I_i = f(q_i) sum_j f(k_j), O_j = f(k_j) sum_i f(q_i); I'_i = f(q_i) sum_j f(k_j) / O_j and
    O'_j = f(k_j) sum_i f(q_i) / I_i, the latter clamped if `clamp`. 1e-6 is added to both factors of each product.
    """
    relu = row.options["kernel"] == "relu"
    q, k = (t.clamp(min=0) + EPS if relu else 1 / (1 + torch.exp(-t)) for t in (row.head(row.q, h), row.head(row.k, h)))
    every, senders = row.keys, list(range(len(q))) if row.fault == "padding flows in" else row.keys
    incoming = [torch.dot(q[i] + EPS, k[every].sum(0) + EPS) for i in range(len(q))]
    outgoing = [torch.dot(k[j] + EPS, q[senders].sum(0) + EPS) for j in range(len(q))]
    sink = [torch.dot(q[i] + EPS, torch.stack([k[j] / outgoing[j] for j in every]).sum(0) + EPS) for i in range(len(q))]
    source = [
        torch.dot(k[j] + EPS, torch.stack([q[i] / incoming[i] for i in every]).sum(0) + EPS) for j in range(len(q))
    ]
    clamp = row.options["clamp"] and row.fault != "no clamp"
    source = [s.clamp(-1, 1) if clamp else s for s in source]
    return q, k, incoming, sink, source


TWIN = Twin(
    mix=mix,
    loss=2.335484,
    specs=["flowformer", "flowformer:kernel=relu,competition=heads,clamp=false,conv=3"],
    grids=["flowformer"],
    faults={
        ("flowformer", "padded"): [
            "no mask",
            "mask v instead of k",
            "padding flows in",
            "count of the padded length",
            "softmax over the heads",
            "no clamp",
        ]
    },
    inputs=["flowformer"],
    parameters={"flowformer": 0},
    impossible=["flowformer:kernel=elu", "flowformer:competition=rows"],
)
