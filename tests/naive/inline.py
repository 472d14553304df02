"""InLine attention (Han et al. 2024, https://arxiv.org/abs/2412.06590) as loops over queries and keys.

y_i = sum_j (s_ij - mean_j s_ij + 1 / R) v_j, s_ij = f(q_i) . f(k_j) / (R sqrt K), and a convolution of v with a kernel
predicted from the mean of x.
"""

from itertools import product
from math import sqrt

import torch
from torch import Tensor

from naive import Row, Twin, heads

KERNELS = {
    "identity": lambda t: t,
    "relu": lambda t: t.clamp(min=0),
    "leakyrelu": lambda t: t.clamp(min=0) + 0.01 * t.clamp(max=0),
    "exp": lambda t: torch.exp(t / 5),
}


def mix(row: Row, h: int) -> Tensor:
    q, k, v = heads(row, h)
    f = KERNELS[str(row.options["kernel"])]
    q, k = f(q), f(k)
    count = len(row.x) if row.fault == "count of the padded length" else len(row.real)
    scale = 1.0 if row.fault == "no scale" else sqrt(q.shape[1])
    y = []
    for i in row.real:
        scores = [torch.dot(q[i], k[j]) / (scale * count) for j in row.keys]
        below = torch.zeros_like(scores[0]) if row.fault == "nothing subtracted" else sum(scores) / len(row.keys)
        weights = [score - below + 1 / count for score in scores]
        y.append(sum((w * v[j] for w, j in zip(weights, row.keys, strict=True)), torch.zeros_like(v[0])))
    mixed = torch.stack(y)
    return mixed + predicted(row, h, v) if row.options["conv"] else mixed


def predicted(row: Row, h: int, v: Tensor) -> Tensor:
    """v (N, K) -> (R, K): depthwise convolution whose kernel two linear layers with GELU predict from the mean of x."""
    p, width, taps = row.parameters, v.shape[1], int(row.options["conv"])
    seen = list(range(len(v))) if row.fault == "mean of x over padding" else row.real
    centre = row.head(row.x[seen].mean(0, keepdim=True), h)[0]
    hidden = p["predicted.hidden.weight"][h] @ centre + p["predicted.hidden.bias"][h]
    hidden = hidden * (1 + torch.erf(hidden / sqrt(2))) / 2
    kernel = p["predicted.kernel.weight"][h] @ hidden + p["predicted.kernel.bias"][h]
    kernel = kernel.reshape(width, -1, taps)
    rows, columns = row.dims.grid or (1, len(v))
    real = range(len(v)) if row.fault == "convolution sees padding" else row.real
    y = []
    for i in row.real:
        total = torch.zeros_like(v[0])
        for a, b in product(range(kernel.shape[1]), range(taps)):
            r, c = i // columns + a - kernel.shape[1] // 2, i % columns + b - taps // 2
            if 0 <= r < rows and 0 <= c < columns and r * columns + c in real:
                total = total + kernel[:, a, b] * v[r * columns + c]
        y.append(total)
    return torch.stack(y)


TWIN = Twin(
    mix=mix,
    loss=2.348907,
    specs=["inline", "inline:kernel=exp,conv=5"],
    grids=["inline", "inline:kernel=relu,conv=0"],
    faults={
        ("inline", "padded"): [
            "no mask",
            "count of the padded length",
            "no scale",
            "nothing subtracted",
            "mean of x over padding",
            "convolution sees padding",
        ]
    },
    common_convolution=False,
    inputs=["inline:kernel=leakyrelu"],
    parameters={"inline": 4 * 33 * 64, "inline:conv=0": 0},
    grid_parameters={"inline": 10 * 33 * 64},
    impossible=["inline:kernel=cosine", "inline:conv=2"],
)
