"""Attention to a block and one sorted to it (Sinkhorn Transformer; Tay et al. 2020, https://arxiv.org/abs/2002.11296).

After the paper. Its authors' only code is the Arena's sinkhorn_attention.py, in which the default sorts by a softmax
without Sinkhorn's iterations, blocks hold tokens N / P apart, the sum of all blocks is sorted to every place, and two
attentions are added. As in that code, the sorting network is linear in the sum of a block's keys; its W is one for all
heads, here each head has its own. One softmax over both blocks, the iterations and the temperature are those of the
PyTorch form that is in use (lucidrains/sinkhorn-transformer). That form also reads the queries, takes log(relu) of what
the network gives, and keeps only the largest entry of each row of R; here, as in the paper, nothing is cut and all
entries are kept.
Letters: B batch, H heads, N tokens, D width, K head width, P tokens of a block, C blocks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_zoo import Dims, QKVAttention, register, softmax_attention
from attention_zoo._blocks import Blocks
from attention_zoo._parts import first_columns, refuse_longer, upcast


@register(
    "sinkhorn",
    title="Sinkhorn",
    paper="https://arxiv.org/abs/2002.11296",
    cost="O(N^2)",
    family="sparse",
    state="the keys and values of its block and of the mixture that is sorted to it",
    blind="single tokens of other blocks, only their mixtures",
    differs="no Gumbel noise in training; a sorting network for each head",
)
class SinkhornAttention(QKVAttention):
    """softmax(q [k | k']^T / sqrt K) [v | v'] within a block; k'_c = sum_d R_cd k_d is what R sorts to block c.

    R = Sinkhorn(W sum k_c / temperature) is nearly doubly stochastic: `iterations` times, its rows and then its columns
    are divided by their sums. It is taken over blocks that hold a real token. A place of k' is weighted by the share of
    it that comes from real tokens. block: tokens of a block, 50 as in the Arena; one block is softmax attention.
    iterations, temperature: those of R. W, for each head K times the number of blocks at the longest length, adds
    D N / block parameters that start like nn.Linear, or none if there is one block. Mixing costs 4 N block D
    multiply-adds and the sorting 2 N^2 / block D, which is why it is O(N^2), with a small factor. Raises ValueError for
    a block or iterations below 1 or a temperature that is not positive.
    """

    def __init__(self, dims: Dims, *, block: int = 50, iterations: int = 5, temperature: float = 0.75, conv: int = 0):
        super().__init__(dims, conv=conv)
        if block < 1:
            raise ValueError(f"block={block}: must be at least 1")
        if iterations < 1:
            raise ValueError(f"iterations={iterations}: must be at least 1")
        if temperature <= 0:
            raise ValueError(f"temperature={temperature}: must be positive")
        self.block, self.iterations, self.temperature = block, iterations, temperature
        count = -(-dims.length // block)
        start = (2 * torch.rand(dims.heads, dims.head_dim, count) - 1) * dims.head_dim**-0.5
        self.sort = nn.Parameter(start) if count > 1 else None

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        dropout = self.dims.dropout if self.training else 0.0
        if self.sort is None:
            return softmax_attention(q, k, v, keep, dropout=dropout)
        refuse_longer(q.shape[2], self.dims.length)
        blocks = Blocks.of(q, keep, self.block)
        with torch.autocast(q.device.type, enabled=False):
            q, k, v = (blocks.cut(upcast(t)) for t in (q, k, v))
            real = blocks.real[:, None, :, :, None]  # (B, 1, C, P, 1)
            k, v = torch.where(real, k, 0), torch.where(real, v, 0)
            logs = self.log_sorting(k.sum(3), blocks)
            share = logs.softmax(-1) @ real.to(k.dtype).squeeze(-1)  # (B, H, C, P): how much of a place is real
            some = share > torch.finfo(share.dtype).tiny ** 0.5  # the gradient of 1 / share stays finite
            share = torch.where(some, share, 1)
            k_sorted, v_sorted = (
                (logs.exp() @ t.flatten(3)).unflatten(3, t.shape[3:]) / share.unsqueeze(-1) for t in (k, v)
            )
            itself = real.squeeze(-1) | ~real.any(3)  # a block of padding sees itself, so that no row is empty
            own = torch.zeros_like(share).masked_fill(~itself, -torch.inf)
            bias = torch.cat((own, share.log().masked_fill(~some, -torch.inf)), dim=-1).flatten(1, 2).unsqueeze(2)
            keys, values = (torch.cat(pair, dim=3).flatten(1, 2) for pair in ((k, k_sorted), (v, v_sorted)))
            y = F.scaled_dot_product_attention(q.flatten(1, 2), keys, values, attn_mask=bias, dropout_p=dropout)
        return blocks.join(y.unflatten(1, q.shape[1:3]))

    def log_sorting(self, sums: Tensor, blocks: Blocks) -> Tensor:
        """sums (B, H, C, K) -> the logarithm of R, (B, H, C, C)."""
        assert self.sort is not None
        table = F.pad(upcast(self.sort), (0, Blocks.most(self.block, self.dims.length) - self.sort.shape[-1]))
        logits = sums @ first_columns(table, blocks.count) / self.temperature
        return sinkhorn(logits, blocks.real.any(-1).unsqueeze(1), self.iterations)


def sinkhorn(logits: Tensor, real: Tensor, iterations: int) -> Tensor:
    """logits (..., C, C), real (..., C) -> log R: exp(logits) with rows, then columns divided by their sums, in turns.

    Only real rows and columns count; elsewhere R is 0. log R = logits + f + g, where f belongs to rows, g to columns.
    """
    row, column = real.unsqueeze(-1), real.unsqueeze(-2)
    logits = torch.where(row & column, logits, -1e30)  # finite, so that a row of them has a gradient
    g = torch.zeros_like(logits[..., :1, :])
    f = torch.zeros_like(logits[..., :1])
    for _ in range(iterations):
        f = torch.where(row, -(logits + g).logsumexp(-1, keepdim=True), 0)
        g = torch.where(column, -(logits + f).logsumexp(-2, keepdim=True), 0)
    return logits + f + g
