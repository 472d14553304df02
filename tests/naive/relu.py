"""Linear attention with ReLU, in the form of Katharopoulos et al. 2020 (https://arxiv.org/abs/2006.16236), as loops.

y_i = sum_j w_ij v_j / (sum_j w_ij + 1e-6), w_ij = relu(q_i) . relu(k_j).
"""

from torch import Tensor

from naive import Row, Twin, linear


def mix(row: Row, h: int) -> Tensor:
    return linear(row, h, row.q.clamp(min=0), row.k.clamp(min=0), mean=False)


TWIN = Twin(
    mix=mix,
    loss=2.339639,
    specs=["relu", "relu:conv=5"],
    grids=["relu:conv=1"],
    faults={("relu", "padded"): ["no mask", "mask v instead of k"], ("relu", "tiny"): ["eps of the other form"]},
    inputs=["relu"],
    tiny=0.001,
)
