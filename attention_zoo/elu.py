"""Linear attention with ELU + 1 features (Katharopoulos et al. 2020, https://arxiv.org/abs/2006.16236)."""

import torch.nn.functional as F
from torch import Tensor

from attention_zoo import QKVAttention, linear_attention, register


@register("elu", title="ELU+1 linear", paper="https://arxiv.org/abs/2006.16236", cost="O(N)")
class ELUAttention(QKVAttention):
    """phi(q) (phi(k)^T v), normalised per query, with phi(t) = elu(t) + 1."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        return linear_attention(elu_plus_one(q), elu_plus_one(k), v, keep)


def elu_plus_one(t: Tensor) -> Tensor:
    """t + 1 above zero, exp(t) below: literally elu(t) + 1 cancels, to exactly 0 at t = -8 in bfloat16."""
    return F.relu(t) + t.clamp(max=0).exp()
