"""Block-local attention: the "Local" row of Long Range Arena (Tay et al. 2021, https://arxiv.org/abs/2011.04006).

The Arena's own code reshapes N tokens to (block, N / block) and attends over the first axis, so that its blocks hold
every (N / block)-th token; here they hold neighbours.
Letters: N tokens, D width, K head width.
"""

from torch import Tensor

from attention_zoo import Dims, QKVAttention, register, softmax_attention
from attention_zoo._windows import Windows, varies


@register(
    "local",
    title="Local (blocks)",
    paper="https://arxiv.org/abs/2011.04006",
    cost="O(N)",
    family="sparse",
    state="the keys and values of its block",
    blind="tokens outside of its block in any layer, nor the order of tokens within it",
    differs="blocks of neighbours, not of tokens N / block apart",
)
class LocalAttention(QKVAttention):
    """softmax(q k^T / sqrt K) v within blocks of consecutive tokens that do not overlap.

    block: tokens of a block, 50 as in the Arena; a block of N or more is softmax attention. It adds no parameters.
    Mixing costs 2 N block D multiply-adds. Raises ValueError for a block below 1.
    """

    def __init__(self, dims: Dims, *, block: int = 50, conv: int = 0):
        super().__init__(dims, conv=conv)
        if block < 1:
            raise ValueError(f"block={block}: must be at least 1")
        self.block = block

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        windows = Windows(shape=(q.shape[2],), size=self.block, varies=varies(keep))
        dropout = self.dims.dropout if self.training else 0.0
        q, k, v, keep = windows.cut(q), windows.cut(k), windows.cut(v), windows.mask(keep, q)
        y = softmax_attention(q, k, v, keep, dropout=dropout)
        return windows.join(y)
