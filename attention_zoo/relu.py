"""Linear attention with ReLU features; the form of Katharopoulos et al. 2020 (https://arxiv.org/abs/2006.16236)."""

import torch.nn.functional as F
from torch import Tensor

from attention_zoo import QKVAttention, linear_attention, register


@register(
    "relu",
    title="ReLU linear",
    paper="https://arxiv.org/abs/2006.16236",
    cost="O(N)",
    family="linear",
    state="K x K sums per head",
    blind="the order of tokens, nor negative entries of q and k",
)
class ReLUAttention(QKVAttention):
    """relu(q) (relu(k)^T v) over relu(q) sum_j relu(k_j) + 1e-6 per query, in place of softmax(q k^T) v."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        return linear_attention(F.relu(q), F.relu(k), v, keep)
