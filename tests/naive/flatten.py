"""FLatten (Han et al. 2023, https://arxiv.org/abs/2308.00442) as loops over queries and keys.

y_i = sum_j w_ij v_j / (sum_j w_ij + 1e-6 R), w_ij = f(q_i) . f(k_j) within a head, f(t) as in `focus`.
"""

from torch import Tensor

from naive import Row, Twin, linear, positioned, softplus


def mix(row: Row, h: int) -> Tensor:
    q, k = (focus(row, t) for t in positioned(row))
    return linear(row, h, q, k, mean=True)


def focus(row: Row, t: Tensor) -> Tensor:
    """t (N, D) -> f(t) (N, D): u^p / |u^p| * |u|, u = (relu(t) + 1e-6) / softplus(s), norms over the whole width."""
    u = (t.clamp(min=0) + (1e-9 if row.fault == "inner eps too small" else 1e-6)) / softplus(row.parameters["scale"])
    u = u.unflatten(1, (row.dims.heads if row.fault == "norm per head" else 1, -1))
    sharp = u ** row.options["power"]
    length = (u**2).sum(-1, keepdim=True).sqrt() / (sharp**2).sum(-1, keepdim=True).sqrt()
    return (sharp * length).flatten(1)


TWIN = Twin(
    mix=mix,
    loss=2.322973,
    specs=["flatten", "flatten:power=4,conv=0,key_positions=true"],
    grids=["flatten:key_positions=true"],
    faults={
        ("flatten", "padded"): ["norm per head", "heads interleaved", "convolution sees padding"],
        ("flatten", "tiny"): ["eps of the other form", "eps of the padded length"],
        ("flatten", "negative"): ["inner eps too small"],
        ("flatten:key_positions=true", "padded"): ["no positions", "positions on q", "positions after the scale"],
        ("flatten:key_positions=true", "3 x 4, padded"): ["no positions", "kernel reversed", "norm per head"],
    },
    inputs=["flatten:conv=3", "flatten:key_positions=true"],
    tiny=0.001,
    further={
        "4 x 6, padded": ["flatten:key_positions=true,power=4"],
        "6 x 9, second layer": ["flatten:key_positions=true"],
    },
)
