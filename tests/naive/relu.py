"""ReLU linear as loops over queries and keys."""

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
