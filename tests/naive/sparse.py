"""Fixed and strided patterns (Sparse Transformer; Child et al. 2019, https://arxiv.org/abs/1904.10509) as loops.

Softmax attention over the keys that a query sees. Fixed: those of its block and the columns of every block, which are
its last `columns` places and, with `first`, its first. Strided: those less than a block away or a multiple of it away.
"""

from torch import Tensor

from naive import Row, Twin, softmax_over


def mix(row: Row, h: int) -> Tensor:
    options, fault = row.options, row.fault
    size, columns = int(options["block"]), int(options["columns"])

    def sees(i: int, j: int) -> bool:
        if options["pattern"] == "strided":
            return abs(i - j) < size - (fault == "narrow window") or (i - j) % size == 0
        place = j % size
        column = place >= size - columns or (options["first"] != (fault == "other first") and place == 0)
        column = place < columns if fault == "columns at the start" else column
        return not (fault == "causal" and j > i) and (i // size == j // size or column)

    return softmax_over(row, h, sees)


TWIN = Twin(
    mix=mix,
    loss=2.341198,
    specs=[
        "sparse",
        "sparse:block=4,columns=1",
        "sparse:pattern=strided,block=3,conv=3",
        "sparse:block=5,columns=2,first=false",
    ],
    grids=["sparse:pattern=strided,block=4"],
    faults={
        ("sparse:block=4,columns=1", "padded"): ["no mask", "causal", "other first", "columns at the start"],
        ("sparse:pattern=strided,block=3", "scattered"): ["no mask", "narrow window"],
    },
    parameters={"sparse": 0},
    impossible=[
        "sparse:block=0",
        "sparse:columns=0",
        "sparse:pattern=local",
        "sparse:pattern=strided,columns=3",
        "sparse:pattern=strided,first=false",
    ],
    limit=("sparse:block=16", 1e-12),
)
