"""Sixteen neighbouring cells of an image at once: a stamp is merged or copied in vectors, not cell by cell.

numba does not vectorise a loop over sixteen bytes, because the two arrays might overlap; written as a vector it is one
instruction on every machine, and growing the snakes takes a sixth of the time. Integers only: the images do not change.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

WIDTH = 16  # cells of a piece


class Pieces(NamedTuple):
    """Rows of stamps in pieces: those of stamp s are first[s] ... first[s + 1] - 1, an offset and WIDTH values each.

    A piece may reach beyond its stamp to the right; there its values are 0.
    """

    first: np.ndarray  # (S + 1,)
    offsets: np.ndarray  # (P,) of a piece's first cell
    values: np.ndarray  # (P * WIDTH,) uint8


def in_pieces(stamps: np.ndarray, row: np.ndarray, reach: int) -> Pieces:
    """Stamps (S, side, side) uint8 whose origin is at (reach, reach); row: what a step down and one right add."""
    firsts, offsets, values = [0], [], []
    for stamp in stamps:
        for y in np.flatnonzero(stamp.any(1)):
            columns = np.flatnonzero(stamp[y])
            for x in range(columns[0], columns[-1] + 1, WIDTH):
                part = stamp[y, x : min(x + WIDTH, columns[-1] + 1)]
                offsets.append(int(np.array([y - reach, x - reach]) @ row))
                values.append(np.pad(part, (0, WIDTH - len(part))))
        firsts.append(len(offsets))
    return Pieces(np.array(firsts), np.array(offsets), np.concatenate(values).astype(np.uint8))


@intrinsic
def take_greater(typing: Any, target: Any, at: Any, source: Any, first: Any):  # noqa: ARG001
    """Cells at ... at + 15 of target (uint8) become the greater of themselves and of source's first ... first + 15.

    No index is checked.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        into, values = _vectors(context, builder, signature, arguments)
        old, new = builder.load(into, align=1), builder.load(values, align=1)
        builder.store(builder.select(builder.icmp_unsigned(">", new, old), new, old), into, align=1)
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp), generate


@intrinsic
def take(typing: Any, target: Any, at: Any, source: Any, first: Any):  # noqa: ARG001
    """Cells at ... at + 15 of target (uint8) become source's first ... first + 15; no index is checked."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        into, values = _vectors(context, builder, signature, arguments)
        builder.store(builder.load(values, align=1), into, align=1)
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp), generate


def _vectors(context: Any, builder: Any, signature: Any, arguments: Any) -> list[Any]:
    """Pointers to WIDTH bytes of both arrays."""
    vector = ir.VectorType(ir.IntType(8), WIDTH).as_pointer()
    pointers = []
    for array, index in ((0, 1), (2, 3)):
        data = context.make_array(signature.args[array])(context, builder, arguments[array]).data
        pointers.append(builder.bitcast(builder.gep(data, [arguments[index]]), vector))
    return pointers
