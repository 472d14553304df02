"""Block-local attention (Long Range Arena; Tay et al. 2021, https://arxiv.org/abs/2011.04006) as loops.

Softmax attention of each token over the real tokens of its block: i and j with i // block = j // block.
"""

from torch import Tensor

from naive import Row, Twin, softmax_over


def mix(row: Row, h: int) -> Tensor:
    block = int(row.options["block"]) + (row.fault == "longer blocks")
    return softmax_over(row, h, lambda i, j: i // block == j // block)


TWIN = Twin(
    mix=mix,
    loss=2.340936,
    specs=["local:block=4", "local:conv=3"],
    grids=["local:block=5"],
    faults={("local:block=4", "padded"): ["no mask", "longer blocks"]},
    parameters={"local": 0},
    impossible=["local:block=0"],
    limit=("local:block=16", 1e-12),
)
