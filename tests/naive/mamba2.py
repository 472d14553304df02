"""Mamba-2 in both directions (Hydra; Hwang et al. 2024, https://arxiv.org/abs/2407.09941), a loop from each end.

S_i = exp(-r t_i) S_(i-1) + t_i b_i^T v_i with t = softplus(step(x) + bias); S' runs from the last token to the first.
y_i = out(norm(c_(i-1) S_(i-1) + c'_(i+1) S'_(i+1) + (w v_i + d) v_i) silu(gate(x_i))).
"""

import torch
from torch import Tensor

from naive import Row, Twin, project, softplus


def mix(row: Row) -> Tensor:
    p, fault, real = row.parameters, row.fault, row.real
    heads, state = int(row.options["expand"]) * row.dims.heads, int(row.options["state"])
    inner = shorten(row.x @ p["inner.weight"].T, row) if row.options["short_conv"] else row.x @ p["inner.weight"].T
    inner = inner * torch.sigmoid(inner)
    v, *ways = inner.split((inner.shape[1] - 4 * state, *4 * (state,)), 1)
    ways = (ways[:2], ways[:2] if fault == "b and c of one way" else ways[2:])
    steps = (row.x @ p["step.weight"].T).split(heads, 1)
    width = v.shape[1] // heads
    mixed = torch.zeros_like(v)
    for (b, c), step, order in zip(ways, steps, (1, -1), strict=True):
        for h in range(heads):
            channels = slice(h * width, (h + 1) * width)
            states = v.new_zeros(state, width)
            read = v.new_zeros(width)  # by the previous token of this direction
            for i in row.keys[::order]:
                t = softplus(step[i, h] + p["step_bias"][h])
                held = 1 if fault == "input without its step" else t
                states = torch.exp(-torch.exp(p["log_rate"][h]) * t) * states + held * torch.outer(b[i], v[i, channels])
                seen = c[i] @ states if fault == "not shifted" else read
                mixed[i, channels] = mixed[i, channels] + seen
                read = c[i] @ states
    skip = project(p, "skip", v).repeat_interleave(width, 1)
    y = (mixed if fault == "no skip" else mixed + skip * v)[real]
    y = y / torch.sqrt(y.square().mean(1, keepdim=True) + 1e-5) * p["norm.weight"]
    gate = row.x[real] @ p["gate.weight"].T
    return y * gate * torch.sigmoid(gate) @ p["out.weight"].T


def shorten(t: Tensor, row: Row) -> Tensor:
    """t (N, C) -> (N, C): a depthwise convolution to both sides with a bias, zeros outside and at padding."""
    kernel, bias = row.parameters["short.weight"][:, 0], row.parameters["short.bias"]
    y, taps = bias.repeat(len(t), 1), kernel.shape[1]
    for i in range(len(t)):
        for tap in range(taps):
            j = i + tap - taps // 2
            if 0 <= j < len(t) and (j in row.real or row.fault == "convolution of padding"):
                y[i] = y[i] + kernel[:, tap] * t[j]
    return y


TWIN = Twin(
    whole=mix,
    loss=2.332057,
    specs=["mamba2:state=3,short_conv=3", "mamba2:state=5,expand=1,short_conv=0"],
    grids=["mamba2:state=3"],
    faults={
        ("mamba2:state=3,short_conv=3", "padded"): [
            "no mask",
            "b and c of one way",
            "input without its step",
            "not shifted",
            "no skip",
            "convolution of padding",
        ],
    },
    further={"6 x 9, second layer": ["mamba2:state=3"]},
    parameters={
        "mamba2": 64 * (3 * 128 + 4 * 64)
        + 8 * (128 + 4 * 64)
        + 2 * 64 * 4
        + 128 * 4
        + 128
        + 3 * 4
        - (4 * 64**2 + 4 * 64),
        "mamba2:state=8,expand=1,short_conv=0": 64 * (3 * 64 + 32)
        + 2 * 64 * 2
        + 64 * 2
        + 64
        + 3 * 2
        - (4 * 64**2 + 4 * 64),
    },
    impossible=["mamba2:state=0", "mamba2:expand=0", "mamba2:short_conv=2"],
)
