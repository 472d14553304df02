"""Identity (control): y = v, projected by `out`, with a convolution of v where `conv` asks for one."""

from torch import Tensor

from naive import Row, Twin


def mix(row: Row, h: int) -> Tensor:
    return row.head(row.v, h)[row.real]


TWIN = Twin(
    mix=mix,
    loss=2.315528,
    specs=["identity"],
    grids=["identity:conv=3"],
)
