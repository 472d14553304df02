"""The token-to-token matrix of any map that is linear in v for fixed q and k, found by feeding it basis vectors.

y[h, i, c] = sum_j A[h, c, i, j] v[h, j, c]. Channels whose matrices are equal form one flow: most mechanisms have one,
PolaFormer two. Within a flow every channel can carry another column, so that K columns cost one call.
Letters: N tokens, H heads, K head width, F flows, R rows (queries that are kept).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

MATRIX_BYTES = 2**26  # of one flow's matrices that are held at a time; beyond it only some rows are kept
FLOWS = 4  # at most: of a mechanism with a matrix per channel, four channels are shown
EQUAL = 1e-9  # relative difference below which two channels are one flow
LINEAR = 1e-6  # relative error above which a map is not a weighted sum

Map = Callable[[Tensor], Tensor]  # v (1, H, N, K) -> (1, H, N, K)


class NotAMatrixError(ValueError):
    """The map is not a weighted sum of v, channel by channel."""


@dataclass(frozen=True)
class Matrices:
    """weights (H, F, R, N): entry (i, j) says how much of v_j is in y_i.

    rows (R,): the queries that were kept. channels: those of each flow. found: how many flows there are, of which F
    were probed. error: the largest difference between A v and the map of the real v, relative to the largest output.
    """

    weights: Tensor
    rows: Tensor
    channels: list[list[int]]
    found: int
    error: float


def flows_of(function: Map, v: Tensor) -> list[list[int]]:
    """The channels of a map, grouped by equal matrices: the same random vector in every channel tells them apart."""
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(v.shape[:-1], generator=generator, dtype=v.dtype).unsqueeze(-1)
    y = function(vector.expand_as(v).contiguous())
    size = y.abs().max().clamp(min=torch.finfo(y.dtype).tiny)
    flows: list[list[int]] = []
    for channel in range(v.shape[-1]):
        for flow in flows:
            if (y[..., channel] - y[..., flow[0]]).abs().max() <= EQUAL * size:
                flow.append(channel)
                break
        else:
            flows.append([channel])
    return flows


def choose_rows(queries: Tensor, row_bytes: int, budget: int) -> Tensor:
    """As many of the queries (M,) as fit into the budget, evenly spaced; at least one."""
    count = max(1, min(len(queries), budget // row_bytes))
    return queries[torch.linspace(0, len(queries) - 1, count, dtype=torch.float64).round().long()]


@torch.no_grad()
def probe(
    function: Map,
    v: Tensor,
    queries: Tensor | None = None,
    *,
    channels: list[list[int]] | None = None,
    budget: int = MATRIX_BYTES,
) -> Matrices:
    """The matrices of a map that is affine in v (1, H, N, K), in float64, for these queries (default: all N).

    channels: the flows, if they are known. Raises NotAMatrixError when the map is no weighted sum of v.
    """
    heads, tokens = v.shape[1:3]
    constant = function(torch.zeros_like(v))

    def linear(t: Tensor) -> Tensor:
        return function(t) - constant

    flows = flows_of(linear, v) if channels is None else channels
    chosen = [flows[i] for i in torch.linspace(0, len(flows) - 1, min(FLOWS, len(flows))).round().long().tolist()]
    queries = torch.arange(tokens) if queries is None else queries
    rows = choose_rows(queries, heads * tokens * v.element_size(), budget)  # equally many for every mechanism
    weights = v.new_empty(heads, len(chosen), len(rows), tokens)
    span = min(map(len, chosen))
    for start in range(0, tokens, span):
        columns = range(start, min(start + span, tokens))
        basis = torch.zeros_like(v)
        for flow in chosen:
            basis[:, :, list(columns), flow[: len(columns)]] = 1
        y = linear(basis)[0][:, rows]
        for f, flow in enumerate(chosen):
            weights[:, f, :, start : columns.stop] = y[..., flow[: len(columns)]]
    return Matrices(weights, rows, chosen, len(flows), _error(linear(v)[0][:, rows], weights, v[0], chosen))


def _error(y: Tensor, weights: Tensor, v: Tensor, flows: list[list[int]]) -> float:
    """y (H, R, K) against weights (H, F, R, N) times v (H, N, K), relative. Raises NotAMatrixError."""
    probed = [c for flow in flows for c in flow]
    expected = torch.cat([weights[:, f] @ v[..., flow] for f, flow in enumerate(flows)], dim=-1)
    size = y[..., probed].abs().max().clamp(min=torch.finfo(y.dtype).tiny)
    error = float((y[..., probed] - expected).abs().max() / size)
    if not error <= LINEAR:
        raise NotAMatrixError(
            f"not a weighted sum of v, channel by channel (off by {100 * error:.2g} % on real samples)"
        )
    return error
