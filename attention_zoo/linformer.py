"""Attention over projected keys and values (Linformer; Wang et al. 2020, https://arxiv.org/abs/2006.04768).

After equation 7 of the paper: keys and values are projected along the sequence after they are split into heads. The
authors' fairseq example projects x before W_k and W_v, which differs only in where the bias is added. Skyformer's port
never trained E (it was no leaf of the graph); here it is a parameter.
Letters: N tokens, D width, H heads, K head width.
"""

import math

import torch
from torch import Tensor, nn

from attention_zoo import Dims, QKVAttention, register, softmax_attention
from attention_zoo._parts import first_columns


@register(
    "linformer",
    title="Linformer",
    paper="https://arxiv.org/abs/2006.04768",
    cost="O(N)",
    family="low_rank",
    state="`rank` keys and values per head",
    blind="single tokens, only `rank` mixtures of them with fixed weights",
    ordered=True,
)
class LinformerAttention(QKVAttention):
    """softmax(q (E k)^T / sqrt K) F v, with E and F of `rank` rows and as many columns as the longest sequence.

    Keys and values are zero at padding, so it has no influence. rank: 128 as in Skyformer's suite; with a rank of N and
    E = F the identity, this is softmax attention where nothing is padded. share: F = E; otherwise F is a second matrix.
    All heads share E and F: rank length parameters, twice that without `share`, from the authors' uniform start
    (Xavier's bound over sqrt 2). Mixing costs 4 N rank D multiply-adds. Raises ValueError for a rank below 1.
    """

    def __init__(self, dims: Dims, *, rank: int = 128, share: bool = True, conv: int = 0):
        super().__init__(dims, conv=conv)
        if rank < 1:
            raise ValueError(f"rank={rank}: must be at least 1")
        self.keys = projection(rank, dims.length)
        self.values = None if share else projection(rank, dims.length)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        tokens = q.shape[2]
        if keep is not None:
            k, v = (torch.where(keep[:, None, :, None], t, 0) for t in (k, v))
        keys, values = self.keys, self.keys if self.values is None else self.values
        dropout = self.dims.dropout if self.training else 0.0
        return softmax_attention(q, first_columns(keys, tokens) @ k, first_columns(values, tokens) @ v, dropout=dropout)


def projection(rank: int, length: int) -> nn.Parameter:
    """E or F (rank, length), as it starts."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(rank, length), gain=1 / math.sqrt(2)))
