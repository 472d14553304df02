"""Swin (Liu et al. 2021, https://arxiv.org/abs/2103.14030) as loops over queries and keys.

Softmax attention with logits q_i k_j / sqrt K + B(i - j) over the keys of a query's window; odd layers shift the
windows by half a window, unless one spans the sequence or the shorter side of the grid.
"""

from torch import Tensor

from naive import Row, Twin, softmax_over


def mix(row: Row, h: int) -> Tensor:
    window, grid = int(row.options["window"]), row.dims.grid
    extent = row.dims.length if grid is None else min(grid)
    side = window**2 if grid is None else min(window, extent)
    odd = row.dims.layer % 2 == (0 if row.fault == "begins shifted" else 1)
    shift = side // 2 if odd and side < extent and row.fault != "never shifted" else 0
    reach = 2 * side - 1

    def place(i: int) -> tuple[int, ...]:
        return divmod(i, grid[1]) if grid else (i,)

    def sees(i: int, j: int) -> bool:
        return [(p - shift) // side for p in place(i)] == [(p - shift) // side for p in place(j)]

    def bias(i: int, j: int) -> Tensor:
        entry = 0
        for a, b in zip(place(i), place(j), strict=True):
            a, b = (b, a) if row.fault == "distance reversed" else (a, b)
            entry = entry * reach + min(max(a - b, 1 - side), side - 1) + side - 1
        return row.parameters["bias.table"][h, entry]

    return softmax_over(row, h, sees, bias if row.options["bias"] else None)


TWIN = Twin(
    mix=mix,
    loss=2.341624,
    specs=["swin:window=2", "swin:window=3,bias=false"],
    grids=["swin:window=2", "swin", "swin:window=3,bias=false"],
    faults={
        ("swin:window=2", "padded"): ["no mask", "distance reversed"],
        ("swin:window=2", "shifted"): ["never shifted"],
        ("swin:window=2", "3 x 4, padded, shifted"): ["never shifted"],
        ("swin:window=2", "3 x 4, padded"): ["distance reversed", "begins shifted"],
        ("swin:window=3", "6 x 9, second layer"): ["never shifted", "distance reversed"],
        ("swin:window=3", "6 x 9, third layer"): ["begins shifted"],
    },
    further={
        "shifted": ["swin:window=2", "swin"],
        "3 x 4, padded, shifted": ["swin:window=2", "swin:window=3"],
        "6 x 9, second layer": ["swin:window=3", "swin:window=7", "swin:window=2,bias=false"],
        "6 x 9, third layer": ["swin:window=3"],
    },
    parameters={"swin": 2 * (2 * 8**2 - 1)},
    grid_parameters={"swin": 2 * (2 * 8 - 1) ** 2, "swin:window=9": 2 * (2 * 8 - 1) ** 2},
    impossible=["swin:window=0"],
    limit=("swin:window=4,bias=false", 1e-12),
)
