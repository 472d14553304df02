"""Window, global and random blocks (BigBird; Zaheer et al. 2020, https://arxiv.org/abs/2007.14062).

After the authors' bigbird/core/attention.py, in the form without extra global tokens. Their last global block is the
last of the padded sequence; here it is the last that holds a real token. The authors draw random blocks near the
beginning of a long sequence (among its first 1,024 tokens, or by a plan); here, as in the paper, they are drawn from
all blocks.
Letters: B batch, H heads, N tokens, D width, K head width, P tokens of a block, C blocks, S blocks that a block sees.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from attention_zoo import Dims, QKVAttention, register, softmax_attention
from attention_zoo._blocks import Blocks
from attention_zoo._parts import refuse_longer


@register(
    "bigbird",
    title="BigBird",
    paper="https://arxiv.org/abs/2007.14062",
    cost="O(N)",
    family="sparse",
    state="the keys and values of the blocks that its block sees",
    blind="tokens of other blocks in one layer, unless its own block is global",
)
class BigBirdAttention(QKVAttention):
    """softmax(q k^T / sqrt K) v over a block and its neighbours, the first and the last block, and random blocks.

    The first and the last block are global: their tokens attend to everything. block: tokens of a block. random: number
    of random blocks that each block sees beside the others, all different. The defaults are the authors' and those of
    Skyformer's suite. Where a block sees all others, this is softmax attention. The random blocks are drawn once, from
    the seed, per layer, head and block, as an order in which a block prefers the others: a buffer of (N / block)^2
    numbers per head, no parameters. Mixing costs 2 N (7 + random) block D multiply-adds; choosing the random blocks
    reads that buffer, which the O(N) of the paper leaves out. Raises ValueError for a block below 1 or a negative
    number of random blocks.
    """

    preference: Tensor

    def __init__(self, dims: Dims, *, block: int = 64, random: int = 3, conv: int = 0):
        super().__init__(dims, conv=conv)
        if block < 1:
            raise ValueError(f"block={block}: must be at least 1")
        if random < 0:
            raise ValueError(f"random={random}: must be at least 0")
        most = Blocks.most(block, dims.length)
        self.block, self.random = block, min(random, most)
        self.register_buffer("preference", torch.rand(dims.heads, most, most).argsort(-1))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        refuse_longer(q.shape[2], self.dims.length)
        blocks = Blocks.of(q, keep, self.block)
        dropout = self.dims.dropout if self.training else 0.0
        first, last = blocks.ends()
        seen, counts = self.seen(first, last, blocks.count)
        q_blocks, k_blocks, v_blocks = blocks.cut(q), blocks.cut(k), blocks.cut(v)
        keys, values = (take(t, seen).flatten(3, 4).flatten(1, 2) for t in (k_blocks, v_blocks))  # (B, H C, S P, K)
        real = take(blocks.real.unsqueeze(1).expand(-1, q.shape[1], -1, -1), seen) & counts.unsqueeze(-1)
        real = real.flatten(3, 4)
        real = (real | ~real.any(-1, keepdim=True)).flatten(1, 2).unsqueeze(2)  # if all are padding, all are seen
        y = F.scaled_dot_product_attention(q_blocks.flatten(1, 2), keys, values, attn_mask=real, dropout_p=dropout)
        y = y.unflatten(1, (q.shape[1], blocks.count))
        place = torch.arange(blocks.count, device=q.device)[:, None, None]
        for end in (first, last):  # the queries of a global block, (B, H, P, K)
            queries = take(q_blocks, end[:, None, None, None].expand(-1, q.shape[1], 1, 1))[:, :, 0, 0]
            everything = softmax_attention(queries, k, v, keep, dropout=dropout).unsqueeze(2)
            y = torch.where(place == end[:, None, None, None, None], everything, y)
        return blocks.join(y)

    def seen(self, first: Tensor, last: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """first, last (B,) -> the blocks that each block sees, and which of them count, both (B, H, C, S).

        A block that is listed twice counts once: a random block that counts is no neighbour and not global, and a
        neighbour that counts is not global.
        """
        first, last = first[:, None, None, None], last[:, None, None, None]
        query = torch.arange(count, device=first.device)[:, None]
        near = query + torch.arange(-1, 2, device=first.device)
        near_counts = (near > first) & (near < last)
        ends = torch.cat((first, last), dim=-1)
        ends_count = torch.cat((first == first, last > first), dim=-1)
        other = torch.arange(self.preference.shape[-1], device=first.device)
        eligible = (other > first) & (other < last) & ((other - query).abs() > 1)
        preference = self.preference.index_select(1, query[:, 0]).masked_fill(~eligible, -1)
        preferred, far = preference.topk(self.random, dim=-1)
        shape = (len(first), *far.shape[1:3], -1)
        # not near.clamp(0, count - 1), which torch 2.13 cannot compile for CUDA
        seen = [t.expand(shape) for t in (torch.where(near_counts, near, 0), ends, far.clamp(max=count - 1))]
        counts = [t.expand(shape) for t in (near_counts, ends_count, preferred >= 0)]
        return torch.cat(seen, dim=-1), torch.cat(counts, dim=-1)


def take(t: Tensor, seen: Tensor) -> Tensor:
    """t (B, H, C, P, ...), seen (B, H, ..., S) -> the blocks with these numbers, (B, H, ..., S, P, ...)."""
    batch, heads, count = t.shape[:3]
    start = count * torch.arange(batch * heads, device=t.device).view(batch, heads, *[1] * (seen.dim() - 2))
    return t.flatten(0, 2).index_select(0, (seen + start).flatten()).view(*seen.shape, *t.shape[3:])
