"""BigBird (Zaheer et al. 2020, https://arxiv.org/abs/2007.14062) as loops over queries and keys.

Softmax attention in which the keys of a query are those of the blocks that its block sees: itself, its neighbours, the
first and the last block with a real token, and the `random` others that it prefers most. These two see every block.
"""

from torch import Tensor

from naive import Row, Twin, softmax_over


def mix(row: Row, h: int) -> Tensor:
    size, random = int(row.options["block"]), int(row.options["random"])
    holding = sorted({i // size for i in row.real})
    first, last = holding[0], len(row.x) // size if row.fault == "padding is the last block" else holding[-1]
    seen = {}
    for block in range(last + 1):
        near = [c for c in (block - 1, block, block + 1) if first <= c <= last]
        order = row.parameters["preference"][h, block].tolist()
        others = [c for c in range(first + 1, last) if c not in near]
        others = sorted(others, key=lambda c, order=order: order[c], reverse=row.fault != "least preferred")
        seen[block] = {*near, first, last, *others[:random]}
        if block in (first, last) and row.fault != "global blocks see little":
            seen[block] = set(range(first, last + 1))
        if row.fault == "global blocks unseen" and block not in (first, last):
            seen[block] -= {first, last} - set(near)
    return softmax_over(row, h, lambda i, j: j // size in seen[i // size])


TWIN = Twin(
    mix=mix,
    loss=2.341638,
    specs=["bigbird", "bigbird:block=2,random=1", "bigbird:block=1,random=2,conv=3"],
    grids=["bigbird:block=2,random=1"],
    faults={
        ("bigbird:block=1,random=2", "padded"): [
            "padding is the last block",
            "least preferred",
            "global blocks see little",
            "global blocks unseen",
        ],
        ("bigbird:block=2,random=1", "scattered"): ["no mask", "mask v instead of k"],
    },
    parameters={"bigbird": 0},
    impossible=["bigbird:block=0", "bigbird:random=-1"],
    limit=("bigbird:block=2,random=4", 1e-12),
)
