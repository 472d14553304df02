"""Linear attention with ELU + 1 (Katharopoulos et al. 2020, https://arxiv.org/abs/2006.16236), as loops.

y_i = sum_j w_ij v_j / (sum_j w_ij + 1e-6), w_ij = phi(q_i) . phi(k_j), phi(t) = elu(t) + 1.
"""

import torch
from torch import Tensor

from naive import Row, Twin, linear


def mix(row: Row, h: int) -> Tensor:
    q, k = row.q, row.k
    if row.fault == "mask before the map":
        k = torch.stack([t if j in row.real else torch.zeros_like(t) for j, t in enumerate(k)])
    q, k = (torch.where(t > 0, t + 1, torch.exp(t.clamp(max=0))) for t in (q, k))
    return linear(row, h, q, k, mean=False)


TWIN = Twin(
    mix=mix,
    loss=2.33941,
    specs=["elu", "elu:conv=1"],
    grids=["elu:conv=5"],
    faults={("elu", "padded"): ["mask before the map", "no mask", "mask v instead of k"]},
    inputs=["elu:conv=3"],
    tiny=0.001,
)
