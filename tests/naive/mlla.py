"""MLLA (Han et al. 2024, https://arxiv.org/abs/2405.16605) as loops over queries and keys.

y = out(silu(gate(x)) * (attention(u) + conv(u))), u = silu(front(inner(x))); attention is linear, on elu + 1 of q and
k, with u as v, and rotates q and k in its numerator but not in its normaliser, to which 1e-6 R is added.
"""

from math import cos, sin

import torch
from torch import Tensor

from naive import Row, Twin, project


def whole(row: Row) -> Tensor:
    x, p = row.x, row.parameters
    u = x
    if row.options["front"]:
        u = project(p, "inner", x)
        u = convolve(row, u, "front", leaks=row.fault == "the bias of inner leaks")
        u = u / (1 + torch.exp(-u))
    q, k = (u if row.fault == "q and k are u" else t for t in project(p, "qk", u).split(row.dims.dim, dim=1))
    q, k = (torch.where(t > 0, t + 1, torch.exp(t)) for t in (q, k))
    width = row.dims.dim // row.dims.heads
    heads = []
    for h in range(row.dims.heads):
        channels = range(h * width, (h + 1) * width)
        y = []
        for i in row.real:
            above = {j: turned(row, q[i], k[j], i, j, channels) for j in row.keys}
            below = sum(sum(q[i, c] * k[j, c] for c in channels) for j in row.keys) + 1e-6 * len(row.real)
            below = sum(above.values()) if row.fault == "normaliser turned too" else below
            y.append(sum(w * u[j, list(channels)] for j, w in above.items()) / below)
        heads.append(torch.stack(y))
    y = torch.cat(heads, dim=1)
    if row.options["conv"]:
        y = y + convolve(row, u, "local", leaks=row.fault == "the bias in front leaks")[row.real]
    if row.options["gate"]:
        gate = project(p, "gate", x[row.real])
        y = y * (1 if row.fault == "sigmoid gate" else gate) / (1 + torch.exp(-gate))
    return project(p, "out", y)


def turned(row: Row, f: Tensor, g: Tensor, i: int, j: int, channels: range) -> Tensor:
    """f . g over a head's channels, rotated by the positions of i and j; speeds fall over the whole width D."""
    if not row.options["rotary"]:
        return sum((f[c] * g[c] for c in channels), torch.zeros_like(f[0]))
    grid = row.dims.grid
    distances = [i // grid[1] - j // grid[1], i % grid[1] - j % grid[1]] if grid else [i - j]
    planes = row.dims.dim // 2 // len(distances)
    planes = len(channels) // 2 if row.fault == "planes of a head" else planes
    total = torch.zeros_like(f[0])
    for c in channels[::2]:
        axis, plane = divmod(c // 2, planes)
        angle = distances[axis % len(distances)] * 10_000.0 ** -(plane / planes)
        total = total + (f[c] * g[c] + f[c + 1] * g[c + 1]) * cos(angle)
        total = total + (f[c] * g[c + 1] - f[c + 1] * g[c]) * sin(angle)
    return total


def convolve(row: Row, t: Tensor, name: str, *, leaks: bool) -> Tensor:
    """t (N, D) -> (N, D): depthwise, zeros outside and at padding."""
    kernel, bias = row.parameters[f"{name}.conv.weight"][:, 0], row.parameters[f"{name}.conv.bias"]
    kernel = kernel.reshape(len(kernel), -1, kernel.shape[-1])
    rows, columns = row.dims.grid or (1, len(t))
    seen = range(len(t)) if leaks else row.real
    y = []
    for i in range(len(t)):
        total = bias
        for a in range(kernel.shape[1]):
            for b in range(kernel.shape[2]):
                r, c = i // columns + a - kernel.shape[1] // 2, i % columns + b - kernel.shape[2] // 2
                if 0 <= r < rows and 0 <= c < columns and r * columns + c in seen:
                    total = total + kernel[:, a, b] * t[r * columns + c]
        y.append(total)
    return torch.stack(y)


TWIN = Twin(
    whole=whole,
    loss=2.342415,
    specs=["mlla", "mlla:front=0,gate=false,rotary=false"],
    grids=["mlla"],
    faults={
        ("mlla", "padded"): [
            "no mask",
            "the bias of inner leaks",
            "the bias in front leaks",
            "q and k are u",
            "normaliser turned too",
            "planes of a head",
            "sigmoid gate",
        ]
    },
    parameters={"mlla": 64**2 + 64 + 8 * 64, "mlla:front=0,gate=false": -(64**2 + 64) + 4 * 64},
    grid_parameters={"mlla": 64**2 + 64 + 20 * 64},
    impossible=["mlla:front=2", "mlla:conv=4"],
)
