"""Slow twins of the mechanisms: double loops over queries and keys, written from the published formulas.

Letters: B batch, N tokens, D width, H heads, K head width, A agents, V channels of a value. A twin reads the parameters
of a module by name and shares no code with it. `fault` asks for one deliberate error, to show that a test would see it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import isqrt, sqrt

import torch
from torch import Tensor

from attention_zoo import Attention, Dims

UNMASKED = ("no mask", "mask before the map", "mask v instead of k")
Weight = Callable[[int, int], Tensor]
DEFAULTS = {"flatten": {"power": 3, "conv": 5}, "agent": {"agents": 49, "conv": 3}, "pola": {"alpha": 3.0, "conv": 5}}


@dataclass(frozen=True)
class Row:
    """One sequence of a batch. x, q, k, v (N, D); `real` holds the indices of the R real tokens, in order."""

    x: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    real: list[int]
    parameters: Mapping[str, Tensor]
    options: Mapping[str, float]
    dims: Dims
    fault: str

    @property
    def keys(self) -> list[int]:
        """The tokens that a query looks at."""
        return list(range(len(self.x))) if self.fault in UNMASKED else self.real

    def head(self, t: Tensor, h: int) -> Tensor:
        """t (N, D) -> (N, K): channel c belongs to head c // K."""
        if self.fault == "heads interleaved":
            return t[:, h :: self.dims.heads]
        width = self.dims.dim // self.dims.heads
        return t[:, h * width : (h + 1) * width]


def twin(
    name: str, options: Mapping[str, float], module: Attention, x: Tensor, keep: Tensor | None = None, fault: str = ""
) -> Tensor:
    """x (B, N, D), keep (B, N) or None -> (B, N, D), zero at padding."""
    options, y = {**DEFAULTS.get(name, {}), **options}, torch.zeros_like(x)
    parameters, dims = dict(module.named_parameters()), module.dims
    for b in range(len(x)):
        real = [i for i in range(x.shape[1]) if keep is None or keep[b, i]]
        q, k, v = project(parameters, "qkv", x[b]).split(dims.dim, dim=1)
        v = clear(v, real) if fault == "mask v instead of k" else v
        row = Row(x[b], q, k, v, real, parameters, options, dims, fault)
        y[b, real] = finish(row, torch.cat([MIXES[name](row, h) for h in range(dims.heads)], dim=1))
    return y


def clear(t: Tensor, real: list[int]) -> Tensor:
    """t (N, D) with zeros at padding."""
    return torch.stack([t[i] if i in real else 0 * t[i] for i in range(len(t))])


def project(parameters: Mapping[str, Tensor], name: str, t: Tensor) -> Tensor:
    return t @ parameters[f"{name}.weight"].T + parameters[f"{name}.bias"]


def finish(row: Row, mix: Tensor) -> Tensor:
    """mix (R, D) -> (R, D): add the convolution, gate, project."""
    local = convolve(row) if row.options.get("conv") else torch.zeros_like(mix)
    gated = "gate.weight" in row.parameters
    gate = project(row.parameters, "gate", row.x[row.real]) if gated else torch.ones_like(mix)
    gate = torch.sigmoid(gate) if row.fault == "sigmoid gate" or row.options.get("gate") == "sigmoid" else gate
    y = mix * gate + local if row.fault == "gate on the mix only" else (mix + local) * gate
    return project(row.parameters, "out", y)


def convolve(row: Row) -> Tensor:
    """v (N, D) -> (R, D): depthwise, zeros outside and at padding, along the sequence or over both axes of the grid."""
    kernel, bias, v = row.parameters["local.conv.weight"], row.parameters["local.conv.bias"], row.v
    kernel = kernel.reshape(len(kernel), -1, kernel.shape[-1])
    sharing = row.dims.dim // len(kernel)
    kernel, bias = kernel.repeat(sharing, 1, 1), bias.repeat(sharing)
    kernel = kernel.flip(-1) if row.fault == "kernel reversed" else kernel
    seen = range(len(v)) if row.fault == "convolution sees padding" else row.real
    height, width = row.dims.grid or (1, len(v))
    y = [bias for _ in row.real]
    for n, i in enumerate(row.real):
        for a, b in product(range(kernel.shape[1]), range(kernel.shape[2])):
            r, c = i // width + a - kernel.shape[1] // 2, i % width + b - kernel.shape[2] // 2
            if 0 <= r < height and 0 <= c < width and r * width + c in seen:
                y[n] = y[n] + kernel[:, a, b] * v[r * width + c]
    return torch.stack(y)


def average(queries: Sequence[int], keys: Sequence[int], weight: Weight, values: Tensor, eps: float = 0.0) -> Tensor:
    """weight(i, j) of query i and key j, values (N, V) -> (R, V): sum_j w_ij v_j / (sum_j w_ij + eps)."""
    y = []
    for i in queries:
        numerator, denominator = torch.zeros_like(values[0]), torch.zeros_like(values[0, 0])
        for j in keys:
            w = weight(i, j)
            numerator, denominator = numerator + w * values[j], denominator + w
        y.append(numerator / (denominator + eps))
    return torch.stack(y)


def epsilon(row: Row, *, mean: bool) -> float:
    """The eps beside a *sum* over keys: 1e-6, or 1e-6 times the number of real keys when it belongs to a mean."""
    count = len(row.x) if row.fault == "eps of the padded length" else len(row.real)
    return 1e-6 * count if mean != (row.fault == "eps of the other form") else 1e-6


def softmax(row: Row, h: int) -> Tensor:
    q, k = row.head(row.q, h), row.head(row.k, h)
    scale = 1.0 if row.fault == "no scale" else sqrt(q.shape[1])
    return average(row.real, row.keys, lambda i, j: torch.exp(torch.dot(q[i], k[j]) / scale), row.head(row.v, h))


def linear(row: Row, h: int, q: Tensor, k: Tensor, *, mean: bool) -> Tensor:
    """Features q, k (N, D) -> (R, K)."""
    q, k = row.head(q, h), row.head(k, h)
    return average(row.real, row.keys, lambda i, j: torch.dot(q[i], k[j]), row.head(row.v, h), epsilon(row, mean=mean))


def elu(row: Row, h: int) -> Tensor:
    q, k = row.q, row.k
    if row.fault == "mask before the map":
        k = torch.stack([t if j in row.real else torch.zeros_like(t) for j, t in enumerate(k)])
    q, k = (torch.where(t > 0, t + 1, torch.exp(t.clamp(max=0))) for t in (q, k))
    return linear(row, h, q, k, mean=False)


def softplus(t: Tensor) -> Tensor:
    return torch.log(1 + torch.exp(t))


def positioned(row: Row) -> tuple[Tensor, Tensor]:
    """q, k (N, D) with the table of positions, where there is one, added to k only."""
    if "positions" not in row.parameters or row.fault == "no positions":
        return row.q, row.k
    table = row.parameters["positions"][: len(row.x)]
    table = table * softplus(row.parameters["scale"]) if row.fault == "positions after the scale" else table
    return row.q + table if row.fault == "positions on q" else row.q, row.k + table


def flatten(row: Row, h: int) -> Tensor:
    q, k = (focus(row, t) for t in positioned(row))
    return linear(row, h, q, k, mean=True)


def focus(row: Row, t: Tensor) -> Tensor:
    """t (N, D) -> (N, D): u^p / ||u^p|| * ||u||, norms over the whole width."""
    u = (t.clamp(min=0) + (1e-9 if row.fault == "inner eps too small" else 1e-6)) / softplus(row.parameters["scale"])
    u = u.unflatten(1, (row.dims.heads if row.fault == "norm per head" else 1, -1))
    sharp = u ** row.options["power"]
    length = (u**2).sum(-1, keepdim=True).sqrt() / (sharp**2).sum(-1, keepdim=True).sqrt()
    return (sharp * length).flatten(1)


def pola(row: Row, h: int) -> Tensor:
    start = row.x.new_zeros(row.dims.dim // row.dims.heads)
    learned = row.options.get("power") != "fixed"
    r = 1 + row.options["alpha"] * torch.sigmoid(row.parameters["power"][h, 0] if learned else start)
    q, k = (row.head(t, h) for t in positioned(row))
    q_plus, q_minus = polarise(row, h, q, r)
    k_plus, k_minus = polarise(row, h, k, 1 + 0 * r if row.fault == "power on q only" else r)

    def same(i: int, j: int) -> Tensor:
        return torch.dot(q_plus[i], k_plus[j]) + torch.dot(q_minus[i], k_minus[j])

    def opposite(i: int, j: int) -> Tensor:
        return torch.dot(q_plus[i], k_minus[j]) + torch.dot(q_minus[i], k_plus[j])

    half, eps = q.shape[1] // 2, epsilon(row, mean=True)
    first, second = row.head(row.v, h).split(half, dim=1)
    if row.fault == "halves of the width":
        first, second = (part[:, h * half : (h + 1) * half] for part in row.v.chunk(2, dim=1))
    flows = (opposite, same) if row.fault == "flows swapped" else (same, opposite)
    chosen = {"same": same, "opposite": opposite}.get(str(row.options.get("flows")))
    flows = (chosen, chosen) if chosen else flows
    pairs = zip(flows, (first, second), strict=True)
    return torch.cat([average(row.real, row.keys, flow, values, eps) for flow, values in pairs], dim=1)


def polarise(row: Row, h: int, t: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """t (N, K), power r (K,) -> the positive and the negative part (N, K)."""
    s = row.head(softplus(row.parameters["scale"])[None], h)
    if row.fault == "power before the scale":
        return t.clamp(min=0) ** r / s, (-t).clamp(min=0) ** r / s
    return (t / s).clamp(min=0) ** r, (-t / s).clamp(min=0) ** r


def span(row: Row, index: int, size: int, parts: int) -> range:
    """Bin `index` of an adaptive pooling of `size` places into `parts` bins."""
    end = (index + 1) * size // parts if row.fault == "bins end early" else -(-(index + 1) * size // parts)
    return range(index * size // parts, end)


def pools(row: Row) -> list[list[int]]:
    """The tokens of each agent: cells of the grid, or tokens by their rank among the real ones; possibly none."""
    count = int(row.options["agents"])
    seen = list(range(len(row.x))) if row.fault == "pool over padding" else row.real
    if row.dims.grid is None:
        return [[seen[rank] for rank in span(row, a, len(seen), count)] for a in range(count)]
    (height, width), side = row.dims.grid, isqrt(count)
    boxes = [(span(row, a // side, height, side), span(row, a % side, width, side)) for a in range(count)]
    return [[r * width + c for r in rows for c in columns if r * width + c in seen] for rows, columns in boxes]


def stretch(row: Row, table: Tensor, i: int, length: int) -> Tensor:
    """table (..., T) -> (...): its value at the centre of cell i of `length`, linear between the centres of its own."""
    size = table.shape[-1]
    place = min(max((i + 0.5) * size / length - 0.5, 0.0), size - 1.0)
    place = i * (size - 1) / (length - 1) if row.fault == "corners aligned" else place
    low = int(place)
    return (1 - place + low) * table[..., low] + (place - low) * table[..., min(low + 1, size - 1)]


def agent_bias(row: Row, end: str, h: int, i: int) -> Tensor:
    """The bias (A,) between token i as a `key` or a `query` and every agent."""
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


def agent(row: Row, h: int) -> Tensor:
    q, k, v = row.head(row.q, h), row.head(row.k, h), row.head(row.v, h)
    source, scale = k if row.fault == "agents from k" else q, sqrt(q.shape[1])
    last = 1.0 if row.fault == "no scale" else scale
    bins = {a: tokens for a, tokens in enumerate(pools(row)) if tokens or row.fault == "empty agents stay"}
    agents = [source[tokens].sum(0) / max(len(tokens), 1) for tokens in bins.values()]
    b1, b2 = (torch.stack([agent_bias(row, end, h, i)[list(bins)] for i in range(len(q))]) for end in ("key", "query"))
    every = range(len(agents))
    seen = average(every, row.keys, lambda a, j: torch.exp(torch.dot(agents[a], k[j]) / scale + b1[j, a]), v)
    return average(row.real, every, lambda i, a: torch.exp(torch.dot(q[i], agents[a]) / last + b2[i, a]), seen)


MIXES: dict[str, Callable[[Row, int], Tensor]] = {
    "softmax": softmax,
    "relu": lambda row, h: linear(row, h, row.q.clamp(min=0), row.k.clamp(min=0), mean=False),
    "elu": elu,
    "mean": lambda row, h: average(row.real, row.keys, lambda _i, _j: row.x.new_ones(()), row.head(row.v, h)),
    "identity": lambda row, h: row.head(row.v, h)[row.real],
    "flatten": flatten,
    "agent": agent,
    "pola": pola,
}
