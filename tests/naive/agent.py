"""Agent attention (Han et al. 2023, https://arxiv.org/abs/2312.08874) as two loops, to the agents and back.

y_i = sum_a softmax_a(q_i a / sqrt K + B2_ia) sum_j softmax_j(a k_j / sqrt K + B1_aj) v_j. The agents a are means of q
over the cells of a grid, or over segments of the real tokens.
"""

from math import isqrt, sqrt

import torch
from torch import Tensor

from naive import Row, Twin, average


def mix(row: Row, h: int) -> Tensor:
    q, k, v = row.head(row.q, h), row.head(row.k, h), row.head(row.v, h)
    source, scale = k if row.fault == "agents from k" else q, sqrt(q.shape[1])
    last = 1.0 if row.fault == "no scale" else scale
    bins = {a: tokens for a, tokens in enumerate(pools(row)) if tokens or row.fault == "empty agents stay"}
    agents = [source[tokens].sum(0) / max(len(tokens), 1) for tokens in bins.values()]
    b1, b2 = (torch.stack([agent_bias(row, end, h, i)[list(bins)] for i in range(len(q))]) for end in ("key", "query"))
    every = range(len(agents))
    seen = average(every, row.keys, lambda a, j: torch.exp(torch.dot(agents[a], k[j]) / scale + b1[j, a]), v)
    return average(row.real, every, lambda i, a: torch.exp(torch.dot(q[i], agents[a]) / last + b2[i, a]), seen)


def span(row: Row, index: int, size: int, parts: int) -> range:
    """Bin `index` of an adaptive pooling of `size` positions into `parts` bins; bins may overlap."""
    end = (index + 1) * size // parts if row.fault == "bins end early" else -(-(index + 1) * size // parts)
    return range(index * size // parts, end)


def pools(row: Row) -> list[list[int]]:
    """The real tokens of each agent's bin, which on a padded grid may be none; on a sequence, bins are of ranks."""
    count = int(row.options["agents"])
    seen = list(range(len(row.x))) if row.fault == "pool over padding" else row.real
    if row.dims.grid is None:
        return [[seen[rank] for rank in span(row, a, len(seen), count)] for a in range(count)]
    (height, width), side = row.dims.grid, isqrt(count)
    boxes = [(span(row, a // side, height, side), span(row, a % side, width, side)) for a in range(count)]
    return [[r * width + c for r in rows for c in columns if r * width + c in seen] for rows, columns in boxes]


def stretch(row: Row, table: Tensor, i: int, length: int) -> Tensor:
    """table (..., T) -> (...): its value at cell i when stretched to `length` cells, linear between cells' centres."""
    size = table.shape[-1]
    place = min(max((i + 0.5) * size / length - 0.5, 0.0), size - 1.0)
    place = i * (size - 1) / (length - 1) if row.fault == "corners aligned" else place
    low = int(place)
    return (1 - place + low) * table[..., low] + (place - low) * table[..., min(low + 1, size - 1)]


def agent_bias(row: Row, end: str, h: int, i: int) -> Tensor:
    """Biases (A,) between every agent and token i: B1 if `end` is key, B2 if it is query; 0 without `bias`."""
    if not row.options.get("bias"):
        return torch.zeros(int(row.options["agents"]), dtype=row.x.dtype)
    end = {"key": "query", "query": "key"}[end] if row.fault == "tables swapped" else end
    block = row.parameters["bias.queries" if end == "query" else "bias.keys"][h]
    if row.dims.grid is None:
        return stretch(row, block, i, len(row.x) if row.fault == "stretch to the padded length" else row.dims.length)
    height, width = row.dims.grid
    r, c = divmod(i, width)
    lines, columns = row.parameters[f"bias.{end}_rows"][h], row.parameters[f"bias.{end}_columns"][h]
    return stretch(row, stretch(row, block, c, width), r, height) + lines[:, r, 0] + columns[:, 0, c]


TWIN = Twin(
    mix=mix,
    loss=2.433951,
    specs=["agent:agents=5,bias=true", "agent", "agent:agents=9,conv=0", "agent:agents=49,conv=5,bias=true"],
    grids=["agent:agents=4,bias=true", "agent:agents=9,conv=5,bias=true", "agent:agents=16,conv=0"],
    faults={
        ("agent:agents=5", "padded"): ["pool over padding", "bins end early", "agents from k", "no scale", "no mask"],
        ("agent:agents=5", "scattered"): ["pool over padding", "convolution sees padding"],
        ("agent:agents=5,bias=true", "padded"): ["stretch to the padded length", "corners aligned", "tables swapped"],
        ("agent:agents=4,bias=true", "3 x 4, padded"): ["pool over padding", "empty agents stay", "corners aligned"],
        ("agent:agents=9,bias=true", "3 x 4, padded"): ["tables swapped", "bins end early"],
    },
    inputs=["agent:agents=5,bias=true"],
    further={
        "4 x 6, padded": ["agent:agents=16,bias=true"],
        "6 x 9, third layer": ["agent:bias=true", "agent:agents=9,bias=true"],
    },
)
