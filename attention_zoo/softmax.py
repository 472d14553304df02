"""Scaled dot-product attention (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762).

Letters: K head width.
"""

from torch import Tensor

from attention_zoo import QKVAttention, register, softmax_attention


@register(
    "softmax",
    title="Softmax",
    paper="https://arxiv.org/abs/1706.03762",
    cost="O(N^2)",
    family="softmax",
    state="every key and value, 2 N D numbers",
    blind="the order of tokens",
)
class SoftmaxAttention(QKVAttention):
    """softmax(q k^T / sqrt K) v."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        return softmax_attention(q, k, v, keep, dropout=self.dims.dropout if self.training else 0.0)
