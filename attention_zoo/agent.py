"""Agent attention (Han et al. 2023, https://arxiv.org/abs/2312.08874).

After the authors' models/agent_pvt.py. On sequences, the agents are means of successive segments of the real tokens,
and each bias is one block table, stretched to the longest length of the task.
Letters: B batch, N tokens, D width, H heads, K head width, A agents.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_zoo import Dims, QKVAttention, register, softmax_attention
from attention_zoo._parts import first_columns
from attention_zoo._pooling import pooling_bins

BLOCK = 7  # side of the authors' block tables; on a sequence a table has BLOCK * BLOCK entries


@register(
    "agent",
    title="Agent",
    paper="https://arxiv.org/abs/2312.08874",
    cost="O(N)",
    family="low_rank",
    state="A agents per head, each with K numbers",
    blind="the order of tokens within the segment that an agent pools, beyond the convolution's taps",
    adapted="agents pooled along the sequence",
    adapted_where={
        "conv!=0": "1-D convolution",
        "bias=true": "position biases along the sequence, without row and column tables",
    },
    departs={"bias=false": "no position biases", "conv": "not the authors' convolution of 3 taps"},
)
class AgentAttention(QKVAttention):
    """softmax(q a^T / sqrt K + B2) softmax(a k^T / sqrt K + B1) v, the agents a pooled from q.

    agents: A, a square number on a grid. conv: taps of the convolution of v, one kernel per channel. bias: the authors'
    learned position biases B1 and B2. Raises ValueError for agents below 1 or, on a grid, not a square, or an even
    number of taps.
    """

    shared_conv = False

    def __init__(self, dims: Dims, *, agents: int = 49, conv: int = 3, bias: bool = False):
        super().__init__(dims, conv=conv)
        if agents < 1 or (dims.grid is not None and math.isqrt(agents) ** 2 != agents):
            raise ValueError(f"agents={agents}: must be positive, and a square on a grid (9, 16, 49)")
        self.agents = agents
        self.bias = (SequenceBias if dims.grid is None else GridBias)(dims, agents) if bias else None

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        bins, filled = pooling_bins(self.agents, q.shape[2], self.dims.grid, keep, q.device)
        agents = (bins.unsqueeze(1).to(q.dtype) @ q) / bins.sum(-1).clamp(min=1)[:, None, :, None]
        to_agents, to_queries = (None, None) if self.bias is None else self.bias(q.shape[2])
        dropout = self.dims.dropout if self.training else 0.0
        summary = softmax_attention(agents, k, v, keep, bias=to_agents, dropout=dropout)
        return softmax_attention(q, agents, summary, filled, bias=to_queries, dropout=dropout)


def table(*shape: int) -> nn.Parameter:
    """A learned table, drawn from a truncated normal of std 0.02."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=0.02))


class SequenceBias(nn.Module):
    """B1 (H, A, N) and B2 (H, N, A) from block tables stretched linearly to the longest sequence, cut to N."""

    def __init__(self, dims: Dims, agents: int):
        super().__init__()
        self.length = dims.length
        self.keys, self.queries = (table(dims.heads, agents, BLOCK * BLOCK) for _ in range(2))

    def forward(self, tokens: int) -> tuple[Tensor, Tensor]:
        keys, queries = (F.interpolate(t, self.length, mode="linear") for t in (self.keys, self.queries))
        return first_columns(keys, tokens), first_columns(queries, tokens).transpose(-2, -1)


class GridBias(nn.Module):
    """B1 (H, A, N) and B2 (H, N, A): bilinearly stretched block tables plus tables of rows and of columns."""

    def __init__(self, dims: Dims, agents: int):
        super().__init__()
        assert dims.grid is not None
        self.grid = rows, columns = dims.grid
        self.keys, self.queries = (table(dims.heads, agents, BLOCK, BLOCK) for _ in range(2))
        self.key_rows, self.query_rows = (table(dims.heads, agents, rows, 1) for _ in range(2))
        self.key_columns, self.query_columns = (table(dims.heads, agents, 1, columns) for _ in range(2))

    def forward(self, tokens: int) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        keys, queries = (F.interpolate(t, self.grid, mode="bilinear") for t in (self.keys, self.queries))
        keys = (keys + self.key_rows + self.key_columns).flatten(-2)
        return keys, (queries + self.query_rows + self.query_columns).flatten(-2).transpose(-2, -1)
