"""PolaFormer (Meng et al. 2025, https://arxiv.org/abs/2501.15061) as loops over queries and keys.

y_i = sum_j w_ij v_j / (sum_j w_ij + 1e-6 R), with w_ij = q+_i k+_j + q-_i k-_j for the first half of each head's v and
q+_i k-_j + q-_i k+_j for the second; `polarise` makes the parts + and -. The sum with the convolution of v is gated.
"""

import torch
from torch import Tensor

from naive import Row, Twin, average, epsilon, positioned, softplus


def mix(row: Row, h: int) -> Tensor:
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
    """t (N, K), powers r (K,) -> max(t / softplus(s), 0)^r and max(-t / softplus(s), 0)^r, both (N, K)."""
    s = row.head(softplus(row.parameters["scale"])[None], h)
    if row.fault == "power before the scale":
        return t.clamp(min=0) ** r / s, (-t).clamp(min=0) ** r / s
    return (t / s).clamp(min=0) ** r, (-t / s).clamp(min=0) ** r


TWIN = Twin(
    mix=mix,
    loss=2.333192,
    specs=[
        "pola",
        "pola:alpha=5,conv=3,key_positions=true",
        "pola:alpha=7,conv=0",
        "pola:gate=off,flows=same",
        "pola:gate=sigmoid,power=fixed,flows=opposite,conv=0",
    ],
    grids=["pola:key_positions=true"],
    faults={
        ("pola", "padded"): [
            "mask v instead of k",
            "flows swapped",
            "halves of the width",
            "sigmoid gate",
            "gate on the mix only",
            "power before the scale",
            "power on q only",
            "convolution sees padding",
        ],
        ("pola", "tiny"): ["eps of the other form", "eps of the padded length"],
        ("pola:key_positions=true", "padded"): ["no positions", "positions on q", "positions after the scale"],
        ("pola:key_positions=true", "3 x 4, padded"): ["no positions", "kernel reversed", "sigmoid gate"],
    },
    inputs=["pola:conv=3", "pola:alpha=5"],
    tiny=0.03,
    further={"4 x 6, padded": ["pola:key_positions=true,alpha=4"], "6 x 9, second layer": ["pola:key_positions=true"]},
)
