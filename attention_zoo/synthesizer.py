"""Attention weights that compare no query with a key (Synthesizer; Tay et al. 2021, https://arxiv.org/abs/2005.00743).

After the paper and the authors' mesh_tensorflow/transformer/attention.py (tensorflow/mesh). The Arena's results come
from R + q k^T / sqrt K, which does compare: `dot=true`. The Arena's dense form mixes heads with tokens by a reshape
without a transpose; this one does not. Weights belong to positions, so that there are parameters for every position up
to the longest length.
Letters: B batch, N tokens, D width, H heads, K head width, L the longest length.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_zoo import Dims, QKVAttention, register, softmax_attention
from attention_zoo._parts import first_columns, split_heads, upcast

KINDS = ("random", "dense", "mix")


@register(
    "synthesizer",
    title="Synthesizer",
    paper="https://arxiv.org/abs/2005.00743",
    cost="O(N^2)",
    ordered=True,
    family="mixing",
    state="the values of all tokens, with weights that belong to positions",
    departs={"dot": "queries and keys are compared, too, as in the Arena's runs"},
)
class SynthesizerAttention(QKVAttention):
    """softmax(S) v over the real tokens: S_ij = R_ij, or W2_j relu(q_i) + b_j, or a mix of both.

    kind: `random`, R a learned L x L table per head, the same for all sequences; `dense`, q = W1 x, and W2 (L x K) and
    b the same for all heads; `mix`, (1 - a) dense + a random, a = sigmoid(balance), which starts at 1/2. dot: adds
    q_i k_j / sqrt K to R, as the Arena's runs do. rank: if not 0, R = left^T right of this rank, 32 in the Arena's
    code. `qkv` has only what is used: 2 D^2 + 2 D parameters less (dense, mix: D^2 + D; dot: none). R adds H L^2
    parameters, or 2 H L rank (Xavier's bound over sqrt H, as in the Arena), and dense adds L K + L (as nn.Linear
    starts). Mixing costs N^2 D multiply-adds, N^2 D more if dense or dot, and H N^2 rank for a rank. Raises ValueError
    for an unknown kind, a negative rank, a rank of dense, or dot with another kind than random.
    """

    def __init__(self, dims: Dims, *, kind: str = "random", rank: int = 0, dot: bool = False, conv: int = 0):
        super().__init__(dims, conv=conv)
        if kind not in KINDS:
            raise ValueError(f"kind={kind}: must be random, dense or mix")
        if rank < 0 or (rank and kind == "dense"):
            raise ValueError(f"rank={rank}: must be at least 0, and 0 with kind=dense")
        if dot and kind != "random":
            raise ValueError(f"dot=true: goes with kind=random, not kind={kind}")
        self.kind, self.dot = kind, dot
        self.qkv = nn.Linear(dims.dim, (3 if dot else 1 if kind == "random" else 2) * dims.dim)
        if kind != "dense":
            self.left = table(dims, rank) if rank else None
            self.right = table(dims, rank or dims.length)
        if kind != "random":
            self.scores = nn.Linear(dims.head_dim, dims.length)
        if kind == "mix":
            self.balance = nn.Parameter(torch.zeros(1))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, N, D) -> q, k, v (B, H, N, K); a q or k that is not used is a copy of another."""
        parts = self.qkv(x).split(self.dims.dim, dim=-1)
        q, k, v = (split_heads(part, self.dims.heads) for part in (parts[0], parts[len(parts) // 2], parts[-1]))
        return q, k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        tokens = v.shape[2]
        if self.dot:
            dropout = self.dims.dropout if self.training else 0.0
            return softmax_attention(q, k, v, keep, bias=self.random(tokens), dropout=dropout)
        with torch.autocast(q.device.type, enabled=False):
            q, v = upcast(q), upcast(v)
            if self.kind == "random":
                return self.average(self.random(tokens).softmax(-1), v, keep)
            scores = self.dense(q)
            if self.kind == "mix":
                a = upcast(self.balance).sigmoid()
                scores = (1 - a) * scores + a * self.random(tokens)
            if keep is not None:  # a sequence without real tokens attends to all, so that it stays finite
                scores = scores.masked_fill(~(keep | ~keep.any(-1, keepdim=True))[:, None, None], -torch.inf)
            return F.dropout(scores.softmax(-1), self.dims.dropout, self.training) @ v

    def random(self, tokens: int) -> Tensor:
        """R (H, N, N)."""
        right = first_columns(upcast(self.right), tokens)
        if self.left is None:
            return first_columns(right.transpose(-2, -1), tokens).transpose(-2, -1)
        return first_columns(upcast(self.left), tokens).transpose(-2, -1) @ right

    def dense(self, q: Tensor) -> Tensor:
        """q (B, H, N, K) -> (B, H, N, N)."""
        weight, bias = upcast(self.scores.weight), upcast(self.scores.bias)
        return F.relu(q) @ first_columns(weight.T, q.shape[2]) + first_columns(bias, q.shape[2])

    def average(self, weights: Tensor, v: Tensor, keep: Tensor | None) -> Tensor:
        """weights (H, N, N), rows summing to 1, v (B, H, N, K) -> (B, H, N, K): the average over real tokens."""
        dropped = F.dropout(weights, self.dims.dropout, self.training)
        if keep is None:
            return torch.einsum("hij,bhjk->bhik", dropped, v)
        real = keep.to(v.dtype)
        least = torch.finfo(v.dtype).tiny ** 0.5  # the gradient of 1 / share stays finite
        share = torch.einsum("hij,bj->bhi", weights, real).clamp(min=least)
        return torch.einsum("hij,bhjk->bhik", dropped, v * real[:, None, :, None]) / share.unsqueeze(-1)


def table(dims: Dims, rows: int) -> nn.Parameter:
    """A learned table (H, rows, L), drawn uniformly."""
    bound = (6 / (dims.heads * (rows + dims.length))) ** 0.5
    return nn.Parameter(torch.empty(dims.heads, rows, dims.length).uniform_(-bound, bound))
