"""Linear attention with learned, spiky features (Hedgehog; Zhang et al. 2024, https://arxiv.org/abs/2402.04347).

After FeatureMap in the authors' lolcats/src/model/feature_map.py, in the form with a softmax over the features.
`linear_attention` adds its 1e-6 to the normaliser; the authors add 1e-12 and clamp features at 1e-12, which makes a
difference where keys are few and the spikes of q and k do not meet. Their configurations start W by Kaiming's rule; the
identity is the paper's.
Letters: B batch, N tokens, H heads, K head width, D width.
"""

import torch
from torch import Tensor, nn

from attention_zoo import Dims, QKVAttention, linear_attention, register
from attention_zoo._parts import upcast


@register(
    "hedgehog",
    title="Hedgehog",
    paper="https://arxiv.org/abs/2402.04347",
    cost="O(N)",
    family="linear",
    state="2 K x K sums per head",
    blind="the order of tokens",
    differs="trained with the rest, not distilled from softmax first",
)
class HedgehogAttention(QKVAttention):
    """Linear attention on f(t) = [softmax(t W) | softmax(-t W)], softmax over the K channels; W per head.

    q and k have their own W, 2 H K^2 parameters in all, which start as the identity. The paper trains them to imitate a
    softmax model before the task; here they are trained with everything else. Mixing costs 4 N K D multiply-adds and
    the maps W another 2 N K D.
    """

    def __init__(self, dims: Dims, *, conv: int = 0):
        super().__init__(dims, conv=conv)
        start = torch.eye(dims.head_dim).repeat(dims.heads, 1, 1)
        self.queries, self.keys = nn.Parameter(start.clone()), nn.Parameter(start)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):
            q, k = upcast(q) @ upcast(self.queries), upcast(k) @ upcast(self.keys)
            return linear_attention(spread(q), spread(k), v, keep)


def spread(t: Tensor) -> Tensor:
    """t (B, H, N, K) -> (B, H, N, 2 K), positive."""
    return torch.cat((t.softmax(-1), (-t).softmax(-1)), dim=-1)
