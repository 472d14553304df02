"""PVT's spatial reduction (Wang et al. 2021, https://arxiv.org/abs/2102.12122) as loops over queries and patches.

Softmax attention with k and v projected from norm(c), c the convolution of x with kernel and stride `reduction`: one
entry for each patch that has a real token, padding being zero.
"""

import torch
from torch import Tensor

from attention_zoo import Dims
from naive import Row, Twin, average, product, project, softmax_over


def mix(row: Row, h: int) -> Tensor:
    reduction, grid = reduction_of(row.dims, int(row.options["reduction"]), int(row.options["keys"])), row.dims.grid
    if reduction == 1:
        return softmax_over(row, h, lambda _i, _j: True)
    weight, bias = row.parameters["shorten.weight"], row.parameters["shorten.bias"]
    columns = grid[1] if grid else len(row.x)
    patches: dict[tuple[int, int], Tensor] = {}
    for i in row.keys:
        r, c = divmod(i, columns)
        tap = weight[:, :, r % reduction, c % reduction] if grid else weight[:, :, c % reduction]
        where = (r // reduction, c // reduction)
        patches[where] = patches.get(where, bias) + tap @ row.x[i]
    if row.fault == "empty patches stay":
        patches = {(0, n): bias for n in range(-(-columns // reduction))} | patches
    short = torch.stack(list(patches.values()))
    centred = short - short.mean(1, keepdim=True)
    short = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    short = short if row.fault == "no norm" else short * row.parameters["norm.weight"] + row.parameters["norm.bias"]
    _, k, v = (row.head(t, h) for t in project(row.parameters, "qkv", short).split(row.dims.dim, dim=1))
    q = row.head(row.q, h)
    return average(row.real, range(len(short)), product(q, k), v)


def reduction_of(dims: Dims, reduction: int, keys: int) -> int:
    """The reduction as given, or the smallest that leaves at most `keys` patches and, on a grid, divides both sides."""
    if not keys:
        return reduction
    if dims.grid is None:
        return -(-dims.length // keys)
    height, width = dims.grid
    divisors = [r for r in range(1, min(dims.grid) + 1) if height % r == width % r == 0]
    return min(r for r in divisors if (height // r) * (width // r) <= keys)


TWIN = Twin(
    mix=mix,
    loss=2.310465,
    specs=["pvt:reduction=3", "pvt:reduction=2,conv=3", "pvt:keys=5"],
    grids=["pvt", "pvt:reduction=2", "pvt:reduction=3,conv=3", "pvt:keys=12"],
    faults={
        ("pvt:reduction=3", "padded"): ["no mask", "empty patches stay", "no norm"],
        ("pvt:keys=6", "4 x 6, padded"): ["no mask", "no norm"],
    },
    further={
        "4 x 6, padded": ["pvt:keys=6", "pvt:keys=23", "pvt:keys=24"],
        "6 x 9, second layer": ["pvt:keys=6", "pvt:keys=53"],
    },
    parameters={"pvt": 64**2 * 4 + 3 * 64, "pvt:keys=49": 64**2 * 3 + 3 * 64},
    grid_parameters={"pvt": 64**2 * 16 + 3 * 64, "pvt:keys=49": 64**2 * 4 + 3 * 64, "pvt:keys=128": 0},
    impossible=["pvt:reduction=0", "pvt:keys=-1"],
    limit=("pvt:reduction=1", 1e-12),
)
