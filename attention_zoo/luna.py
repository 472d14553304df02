"""Attention through a packed memory (Luna; Ma et al. 2021, https://arxiv.org/abs/2106.01540).

After the authors' fairseq/modules/luna_attention.py, with separate keys and values as in their models/lra/model.py. The
authors carry the packed memory, with a residual and a norm, into the next layer, which an attention x -> y cannot; here
each layer has its own memory, used as it is. The authors scale theirs by sqrt D, add sinusoidal positions and apply a
layer norm first, so that its attention starts far less even. They also cut the memory to the length of the batch's
longest sequence, so that the other sequences of a batch matter.
Letters: B batch, N tokens, D width, H heads, K head width, M memory.
"""

import torch
from torch import Tensor, nn

from attention_zoo import Dims, QKVAttention, register, softmax_attention
from attention_zoo._parts import merge_heads, split_heads


@register(
    "luna",
    title="Luna",
    paper="https://arxiv.org/abs/2106.01540",
    cost="O(N)",
    differs="each layer has its own memory, raw, where a scaled and normed one is carried from layer to layer",
    family="low_rank",
    state="a memory of `memory` tokens",
    blind="the order of tokens",
)
class LunaAttention(QKVAttention):
    """packed = softmax(W p k^T / sqrt K) v, then y = softmax(q k'^T / sqrt K) v' with [k' | v'] = W' packed.

    memory: M, the rows of the learned p; the paper's LRA runs take 16, 128 and 256. There are M D parameters more for
    p, which start normal with variance 1 / D, and 3 D^2 + 3 D for W (`pack`) and W' (`unpack`), whose weights start as
    the authors' (Xavier's bound over sqrt 2). Mixing costs 4 N M D multiply-adds, and 2 M D^2. Raises ValueError for a
    memory below 1.
    """

    def __init__(self, dims: Dims, *, memory: int = 256, conv: int = 0):
        super().__init__(dims, conv=conv)
        if memory < 1:
            raise ValueError(f"memory={memory}: must be at least 1")
        width = dims.dim
        self.memory = nn.Parameter(torch.randn(memory, width) * width**-0.5)
        self.pack, self.unpack = nn.Linear(width, width), nn.Linear(width, 2 * width)
        for weight in (self.pack.weight, self.unpack.weight[:width], self.unpack.weight[width:]):
            nn.init.xavier_uniform_(weight, gain=0.5**0.5)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        heads, dropout = self.dims.heads, self.dims.dropout if self.training else 0.0
        questions = split_heads(self.pack(self.memory).unsqueeze(0), heads).expand(len(q), -1, -1, -1)
        packed = merge_heads(softmax_attention(questions, k, v, keep, dropout=dropout))
        keys, values = (split_heads(t, heads) for t in self.unpack(packed).chunk(2, dim=-1))
        return softmax_attention(q, keys, values, dropout=dropout)
