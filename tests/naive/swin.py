"""Swin as loops over queries and keys."""

from torch import Tensor

from naive import Row, Twin, softmax_over


def mix(row: Row, h: int) -> Tensor:
    window, grid = int(row.options["window"]), row.dims.grid
    side = window if grid else window**2
    shift = side // 2 if row.dims.layer % 2 and side < max(grid or (row.dims.length,)) else 0
    shift = 0 if row.fault == "never shifted" else shift
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
    grids=["swin:window=2"],
    faults={
        ("swin:window=2", "padded"): ["no mask", "distance reversed"],
        ("swin:window=2", "shifted"): ["never shifted"],
        ("swin:window=2", "3 x 4, padded, shifted"): ["never shifted"],
        ("swin:window=2", "3 x 4, padded"): ["distance reversed"],
    },
    shifted={"shifted": ["swin:window=2", "swin"], "3 x 4, padded, shifted": ["swin:window=2", "swin:window=3"]},
    parameters={"swin": 2 * (2 * 8**2 - 1)},
    grid_parameters={"swin": 2 * (2 * 8 - 1) ** 2},
    impossible=["swin:window=0"],
    limit=("swin:window=4,bias=false", 1e-12),
)
